/*
 * massfs load [--replace] [--json] SOURCE FILE|-: a volume's index from a dump.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/op_ctx.h"
#include "fs/dump.h"
#include "fs/index_log.h"
#include "fs/volume_stage.h"
#include "tools/options.h"
#include "tools/stream.h"
#include "tools/tool.h"

struct load_args {
	bool replace, json;
	const char *source, *file;
};

static const char usage[] =
	"usage: massfs load [--replace] [--json] SOURCE FILE|-\n"
	"  Make the index of a volume that is not mounted from a dump (- is standard input).\n"
	"  SOURCE        a volume that was just formatted, or a cluster's .conf whose database has none\n"
	"  --replace     it may hold files; its index is kept beside the new one\n"
	"  --json        the summary as JSON\n";

static int load_into(const struct load_args *args, struct volume_stage *s, struct record_counts *counts,
		     char **reason)
{
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	struct tool_progress p;
	struct load_file file;
	int r = load_file_open(&file, args->file);

	if (r < 0)
		return mfs_fail(reason, r, "%s: %s", args->file, strerror(-r));
	tool_progress_init(&p, "massfs load");
	r = load_index(s->engine, &op, load_file_read, &file, tool_progress_show, &p, counts, reason);
	tool_progress_end(&p);
	load_file_release(&file);
	if (r < 0) {
		char *why = *reason;

		*reason = NULL;
		r = mfs_fail(reason, r, "%s: %s; the volume is as it was", args->file,
			     why ? why : strerror(-r));
		free(why);
	}
	return r;
}

static void print_summary(const struct load_args *args, const struct volume_stage *s,
			  const struct record_counts *c, const char *kept)
{
	if (args->json) {
		printf("{\"files\": %" PRIu64 ", \"removed\": %" PRIu64 ", \"links\": %" PRIu64
		       ", \"versions\": %" PRIu64 ", \"slices\": %" PRIu64 ", \"dropped\": %" PRIu64
		       ", \"jobs\": %" PRIu64 ", \"sessions\": %" PRIu64 "}\n",
		       c->n[RECORD_NODE], c->trash, c->n[RECORD_ALIAS], c->n[RECORD_VERSION],
		       c->n[RECORD_SLICES], c->n[RECORD_DROPPED], c->n[RECORD_JOB], c->n[RECORD_SESSION]);
		return;
	}
	printf("%s: %" PRIu64 " files and folders, %" PRIu64 " removed ones, %" PRIu64
	       " further names, %" PRIu64 " versions\n",
	       mfs_config_label(s->cfg), c->n[RECORD_NODE], c->trash, c->n[RECORD_ALIAS], c->n[RECORD_VERSION]);
	if (kept)
		printf("The index before is kept as %s; remove it when all is well.\n", kept);
}

static int load(const struct load_args *args)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	MFS_AUTOFREE char *reason = NULL, *kept = NULL;
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	struct record_counts counts = { 0 };
	struct volume_stage *s = NULL;
	int r;

	mfs_config_init(&cfg);
	r = mfs_config_load(&cfg, args->source, NULL, false, NULL, &reason);
	if (!r)
		r = volume_stage_begin(&cfg, &s, &reason);
	if (r == 0 && !args->replace && s->old != STAGE_NO_INDEX && s->old != STAGE_EMPTY_INDEX)
		r = mfs_fail(
			&reason, -EEXIST,
			"%s: the volume has an index that is not empty; give --replace to put the dump in its place",
			mfs_config_label(&cfg));
	if (r == 0)
		r = load_into(args, s, &counts, &reason);
	/* The log among the objects is of another index. */
	if (r == 0)
		r = index_log_break(s->store, &op);
	if (r == 0)
		r = volume_stage_commit(s, &kept, &reason);
	if (r == 0)
		print_summary(args, s, &counts, kept);
	volume_stage_free(s);
	if (r < 0)
		tool_error("massfs load", "%s", reason ? reason : strerror(-r));
	return r < 0 ? VERB_FAILED : VERB_OK;
}

int cmd_load(int argc, char **argv)
{
	struct load_args args = { 0 };
	const struct tool_option options[] = {
		{ .name = "replace", .flag = &args.replace },
		{ .name = "json", .flag = &args.json },
	};
	int first, status;

	if (!tool_options(argc, argv, options, MFS_ARRAY_LEN(options), usage, 2, 2, &first, &status))
		return status;
	args.source = argv[first];
	args.file = argv[first + 1];
	return load(&args);
}
