/*
 * The contract suite on S3: a MinIO of one node and a cluster of four, each test in a bucket of its own; once with a
 * prefix, as a volume that shares its bucket.
 */
#include "backend/object_store.h"
#include "common/defs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/s3_server.h"
#include "tests/lib/store_suite.h"

static struct s3_server server; /* the suite's open has no argument */

static int open_with(const char *dir, const char *prefix, struct object_store **ret)
{
	MFS_AUTOFREE char *reason = NULL;
	struct s3_options opt = {
		.endpoints = server.endpoints,
		.passwd_file = server.credentials,
		.prefix = prefix,
		.create = true,
	};
	char bucket[64];
	int r;

	s3_server_bucket(dir, bucket);
	opt.bucket = bucket;
	r = s3_store_open(&opt, ret, &reason);
	if (r < 0)
		fprintf(stderr, "open: %s\n", reason ? reason : strerror(-r));
	return r;
}

static int open_plain(const char *dir, struct object_store **ret)
{
	return open_with(dir, NULL, ret);
}

int main(void)
{
	static const struct {
		const char *service;
		struct store_kind kind;
	} runs[] = {
		{ "minio", { .name = "s3", .open = open_plain, .persists = true, .random_ids = true, .rounds = 4 } },
		{ "minio4", { .name = "s3, four nodes", .open = open_plain, .persists = true, .random_ids = true, .rounds = 2 } },
	};
	const char *only = getenv("MASSFS_S3_ONLY");
	int failed = 0;

	for (size_t i = 0; i < MFS_ARRAY_LEN(runs); i++) {
		if (only && strcmp(only, runs[i].service) != 0)
			continue;
		s3_server_start(runs[i].service, &server);
		failed += store_suite_run(&runs[i].kind);
		s3_server_stop(&server);
	}
	return failed ? 1 : 0;
}
