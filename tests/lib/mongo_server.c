/*
 * Running tests/servers for a MongoDB, and a database for each test.
 */
#include "tests/lib/mongo_server.h"

#include <errno.h>
#include <mongoc/mongoc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"
#include "tests/lib/server_run.h"
#include "tests/lib/store_suite.h"

static struct mongo_server server; /* one a program */

const struct mongo_server *mongo_server_start(void)
{
	const char *running = getenv("MASSFS_MONGO");
	char line[1024];
	FILE *f;

	if (server.uri)
		return &server;
	if (running && *running) {
		server.uri = strdup(running);
		return &server;
	}
	server.dir = store_test_dir();
	f = test_servers("start", "mongo", server.dir);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (mfs_str_starts(line, "mongo_endpoints="))
			server.uri = strdup(strchr(line, '=') + 1);
		else if (mfs_str_starts(line, "mongo_pids="))
			server.pid = strtol(strchr(line, '=') + 1, NULL, 10);
	}
	if (pclose(f) != 0 || !server.uri) {
		fprintf(stderr, "tests/servers start mongo: failed\n");
		exit(1);
	}
	return &server;
}

void mongo_server_stop(void)
{
	if (server.dir) {
		pclose(test_servers("stop", "", server.dir));
		store_test_remove(server.dir);
	}
	free(server.uri);
	server = (struct mongo_server){ 0 };
}

void mongo_server_database(const char *dir, char ret[static 64])
{
	const char *base = strrchr(dir, '/');
	struct stat st;
	size_t n;

	/* Databases differ by more than the case of their letters: the folder's number tells them apart. */
	n = (size_t)snprintf(ret, 64, "%.30s-%ju-%ld", base ? base + 1 : dir, stat(dir, &st) == 0 ? (uintmax_t)st.st_ino : 0,
			     (long)getpid());
	for (size_t i = 0; i < n && i < 63; i++)
		if (strchr("/\\. \"$*<>:|?", ret[i]))
			ret[i] = '_';
}

int mongo_server_open(const char *dir, void **shared, struct engine **ret)
{
	struct mongo_options opt = { .uri = mongo_server_start()->uri, .create = true, .pool_size = 16 };
	char *reason = NULL;
	char *database = *shared;
	int r;

	if (!database) {
		database = calloc(1, 64);
		if (!database)
			return -ENOMEM;
		mongo_server_database(dir, database);
		*shared = database;
	}
	opt.database = database;
	r = mongo_engine_open(&opt, ret, &reason);
	if (r < 0)
		fprintf(stderr, "mongo: %s\n", reason ? reason : strerror(-r));
	free(reason);
	return r;
}

void mongo_server_release(void *shared)
{
	mongoc_client_t *client = mongoc_client_new(server.uri);
	mongoc_database_t *db = mongoc_client_get_database(client, shared);
	bson_error_t err;

	if (!mongoc_database_drop(db, &err))
		fprintf(stderr, "mongo: dropping a test's database: %s\n", err.message);
	mongoc_database_destroy(db);
	mongoc_client_destroy(client);
	free(shared);
}
