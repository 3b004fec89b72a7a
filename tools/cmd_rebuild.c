/*
 * massfs rebuild [--force] [--json] SOURCE: a lost index, from the objects and the log among them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "fs/index_log.h"
#include "fs/rebuild.h"
#include "fs/reconcile.h"
#include "fs/volume.h"
#include "tools/options.h"
#include "tools/stream.h"
#include "tools/tool.h"

#define SHOWN_MAX 100 /* lines of what was found, without --verbose */

struct rebuild_args {
	bool force, json, verbose, import_foreign;
	const char *source;
	struct tool_progress progress;
	uint64_t shown;
};

static const char usage[] =
	"usage: massfs rebuild [--force] [--import-foreign] [--verbose] [--json] SOURCE\n"
	"  Make a new index for a volume that is not mounted and has lost its own: from the index log among the objects,\n"
	"  and from objects that are younger.\n"
	"  --force       also when there is an index that can be read; it is kept beside the new one\n"
	"  --import-foreign  files that other programs put among the objects become files of the volume\n"
	"  --verbose     name every file that was found younger, or lost\n"
	"  --json        the summary as JSON\n";

static void show_found(void *arg, const char *what, const char *path)
{
	struct rebuild_args *args = arg;

	if (args->json)
		return;
	if (args->verbose || args->shown < SHOWN_MAX)
		printf("%-24s %s\n", what, path);
	else if (args->shown == SHOWN_MAX)
		printf("... and more (--verbose names all)\n");
	args->shown++;
}

static void show_progress(void *arg, const char *what, uint64_t done)
{
	struct rebuild_args *args = arg;

	(void)what;
	(void)tool_progress_show(&args->progress, done, 0);
}

static void print_json(const struct rebuild_result *r)
{
	char when[40] = "";

	if (r->has_log)
		mfs_str_put_time(when, sizeof(when), r->complete);
	printf("{\"log\": %s, \"complete\": \"%s\", \"clean\": %s, \"epoch\": %" PRIu64
	       ", \"changes\": %" PRIu64 ", \"damaged\": %" PRIu64 ", \"files\": %" PRIu64
	       ", \"versions\": %" PRIu64 ", \"removed\": %" PRIu64,
	       r->has_log ? "true" : "false", when, r->clean ? "true" : "false", r->epoch, r->number,
	       r->damaged, r->log.n[RECORD_NODE], r->log.n[RECORD_VERSION], r->log.trash);
	printf(", \"objects\": %" PRIu64 ", \"added\": %" PRIu64 ", \"replaced\": %" PRIu64
	       ", \"moved\": %" PRIu64 ", \"foreign\": %" PRIu64 ", \"imported\": %" PRIu64
	       ", \"blocked\": %" PRIu64 ", \"lost_files\": %" PRIu64 ", \"lost_past\": %" PRIu64
	       ", \"lost_changes\": %" PRIu64 ", \"unnamed\": %" PRIu64 "}\n",
	       r->objects, r->added, r->replaced, r->renamed, r->foreign, r->imported, r->blocked,
	       r->lost_files, r->lost_past, r->lost_changes, r->unnamed);
}

static void print_log(const struct rebuild_result *r)
{
	char when[40];

	if (!r->has_log) {
		printf("There is no index log that can be used: the index is made from the objects at their paths alone. Names of\n"
		       "links, devices and empty files, owners' write bits, attributes, versions and removed files are not known.\n");
		return;
	}
	mfs_str_put_time(when, sizeof(when), r->complete);
	printf("The index log is complete up to %s (epoch %" PRIu64 ", changes %" PRIu64 "%s): %" PRIu64
	       " files and folders, %" PRIu64 " removed ones, %" PRIu64 " versions.\n",
	       when, r->epoch, r->number, r->clean ? ", a clean unmount" : "", r->log.n[RECORD_NODE],
	       r->log.trash, r->log.n[RECORD_VERSION]);
}

static void print_result(const struct rebuild_result *r, const char *kept)
{
	print_log(r);
	if (r->damaged)
		printf("Damaged or missing parts of the log: %" PRIu64 ".\n", r->damaged);
	printf("Younger than that, from %" PRIu64 " objects: %" PRIu64 " new files, %" PRIu64
	       " with newer content, %" PRIu64 " moved.\n",
	       r->objects, r->added, r->replaced, r->renamed);
	if (!r->clean)
		printf("Not known: names without content, attributes, renames and deletions after that moment.\n");
	if (r->lost_files || r->lost_past || r->lost_changes)
		printf("Lost: %" PRIu64 " files whose content is not in the store any more, %" PRIu64
		       " versions and removed files; %" PRIu64
		       " files had younger\nuploads that are no file's content now (changed in place, or removed since).\n",
		       r->lost_files, r->lost_past, r->lost_changes);
	if (r->blocked)
		printf("%" PRIu64 " objects are at a path where something else is; they become garbage.\n",
		       r->blocked);
	if (r->foreign)
		printf("%" PRIu64 " files among the objects were not made by massfs, %" PRIu64
		       " of them were taken over.\n",
		       r->foreign, r->imported);
	if (r->unnamed)
		printf("%" PRIu64 " objects are named by nothing; massfs gc --delete removes them.\n",
		       r->unnamed);
	if (kept)
		printf("The index before is kept as %s.\n", kept);
}

/* What the keys show follows the new index. */
static int settle(const struct mfs_config *cfg, struct op_ctx *op, char **reason)
{
	struct volume *v = NULL;
	uint64_t left = 0;
	int r = volume_open(cfg, VOLUME_TOOL, NULL, &v, reason);

	if (r < 0)
		return r;
	r = reconcile_run_jobs(v, op, INT64_MAX, &left, NULL, NULL);
	volume_close(v);
	return r;
}

static int rebuild(struct rebuild_args *args)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	struct rebuild_options opt = { .import_foreign = args->import_foreign,
				       .progress = show_progress,
				       .found = show_found,
				       .arg = args };
	struct op_ctx op = { .uid = getuid(), .gid = getgid() };
	MFS_AUTOFREE char *reason = NULL, *kept = NULL;
	struct rebuild_result res = { 0 };
	struct volume_stage *s = NULL;
	int r;

	mfs_config_init(&cfg);
	tool_progress_init(&args->progress, "massfs rebuild");
	r = mfs_config_load(&cfg, args->source, NULL, false, NULL, &reason);
	if (!r)
		r = volume_stage_begin(&cfg, &s, &reason);
	if (r == 0 && !args->force && (s->old == STAGE_USED_INDEX || s->old == STAGE_EMPTY_INDEX))
		r = mfs_fail(
			&reason, -EEXIST,
			"%s: the volume has an index that can be read; rebuild makes a worse one. --force does it all the same",
			mfs_config_label(&cfg));
	if (r == 0)
		r = rebuild_run(s, &op, &opt, &res, &reason);
	tool_progress_end(&args->progress);
	if (r == 0)
		r = index_log_break(s->store, &op);
	if (r == 0)
		r = volume_stage_commit(s, &kept, &reason);
	volume_stage_free(s);
	if (r == 0)
		r = settle(&cfg, &op, &reason);
	if (r < 0) {
		tool_error("massfs rebuild", "%s", reason ? reason : strerror(-r));
		return VERB_FAILED;
	}
	if (args->json)
		print_json(&res);
	else
		print_result(&res, kept);
	return VERB_OK;
}

int cmd_rebuild(int argc, char **argv)
{
	struct rebuild_args args = { 0 };
	const struct tool_option options[] = {
		{ .name = "force", .flag = &args.force },
		{ .name = "import-foreign", .flag = &args.import_foreign },
		{ .name = "verbose", .letter = 'v', .flag = &args.verbose },
		{ .name = "json", .flag = &args.json },
	};
	int first, status;

	if (!tool_options(argc, argv, options, MFS_ARRAY_LEN(options), usage, 1, 1, &first, &status))
		return status;
	args.source = argv[first];
	return rebuild(&args);
}
