/*
 * Verbs of the administrator: gc, fsck, and what umount asks of the daemon.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "fs/fs.h"
#include "fs/fsck.h"
#include "fs/gc_internal.h"
#include "fs/reconcile.h"
#include "fs/verbs_internal.h"

/* --- gc --- */

static void gc_print_found(void *arg, const char *what, const struct object_info *info)
{
	struct verb_call *call = ((struct verb_progress *)arg)->call;

	fprintf(call->out, "%-16s inode %" PRIu64 " version %s, %" PRIu64 " bytes\n", what, info->ino,
		info->version[0] ? info->version : "(no object)", info->size);
}

static void gc_progress(void *arg, uint64_t done)
{
	verb_progress_show(arg, done, 0);
}

static void gc_print_json(FILE *f, const struct gc_result *g, bool deleted)
{
	bool first = true;

	fputc('{', f);
	json_bool(f, &first, "delete", deleted);
	json_number(f, &first, "objects", g->objects);
	json_number(f, &first, "referenced", g->referenced);
	json_number(f, &first, "in_flight", g->in_flight);
	json_number(f, &first, "unnamed", g->unnamed);
	json_number(f, &first, "unnamed_bytes", g->unnamed_bytes);
	json_number(f, &first, "waiting", g->waiting);
	json_number(f, &first, "dropped", g->dropped);
	json_number(f, &first, "dropped_bytes", g->dropped_bytes);
	json_number(f, &first, "expired_versions", g->expired_versions);
	json_number(f, &first, "expired_trash", g->expired_trash);
	json_number(f, &first, "temp_files", g->temp_files);
	json_number(f, &first, "temp_bytes", g->temp_bytes);
	json_number(f, &first, "foreign", g->foreign);
	json_number(f, &first, "foreign_bytes", g->foreign_bytes);
	json_number(f, &first, "deleted", g->deleted);
	json_number(f, &first, "deleted_bytes", g->deleted_bytes);
	json_number(f, &first, "failed", g->failed);
	json_number(f, &first, "slices_documents", g->docs);
	json_number(f, &first, "slices_documents_referenced", g->referenced_docs);
	json_number(f, &first, "slices_documents_unnamed", g->unnamed_docs);
	json_number(f, &first, "slices_documents_dropped", g->dropped_docs);
	json_number(f, &first, "slices_documents_deleted", g->deleted_docs);
	fputs("}\n", f);
}

static void gc_print(FILE *f, const struct gc_result *g, bool deleted)
{
	char a[24], b[24], c[24];

	fprintf(f, "objects:          %" PRIu64 ", %" PRIu64 " of them named by the index\n", g->objects,
		g->referenced);
	if (g->waiting)
		fprintf(f, "dropped just now: %" PRIu64 ", garbage in a minute\n", g->waiting);
	if (g->in_flight)
		fprintf(f, "not yet named:    %" PRIu64 ", of sessions that live\n", g->in_flight);
	fprintf(f, "never named:      %" PRIu64 ", %s\n", g->unnamed,
		mfs_str_put_size(a, sizeof(a), g->unnamed_bytes));
	fprintf(f, "dropped:          %" PRIu64 ", %s\n", g->dropped,
		mfs_str_put_size(b, sizeof(b), g->dropped_bytes));
	fprintf(f, "retention ended:  %" PRIu64 " versions, %" PRIu64 " removed files\n", g->expired_versions,
		g->expired_trash);
	fprintf(f, "unfinished:       %" PRIu64 " uploads, %s\n", g->temp_files,
		mfs_str_put_size(c, sizeof(c), g->temp_bytes));
	if (g->docs)
		fprintf(f, "slices documents: %" PRIu64 ", %" PRIu64 " of them named; %" PRIu64 " garbage\n", g->docs,
			g->referenced_docs, g->unnamed_docs + g->dropped_docs);
	if (g->foreign)
		fprintf(f, "not made by us:   %" PRIu64 ", %s (kept)\n", g->foreign,
			mfs_str_put_size(a, sizeof(a), g->foreign_bytes));
	if (deleted)
		fprintf(f, "deleted:          %" PRIu64 ", %s; %" PRIu64 " failed\n", g->deleted,
			mfs_str_put_size(a, sizeof(a), g->deleted_bytes), g->failed);
	else
		fprintf(f, "Nothing was deleted: that takes --delete.\n");
}

int verb_gc(struct verb_call *call, const struct verb_args *args)
{
	struct verb_progress progress = { .call = call, .what = "objects" };
	bool verbose = (args->flags & FLAG_VERBOSE) && !(args->flags & FLAG_JSON);
	struct gc_options opt = {
		.delete_it = args->flags & FLAG_DELETE,
		.now = mfs_now_ns(),
		.dropped_age_ns = gc_dropped_age_ns(),
		.found = verbose ? gc_print_found : NULL,
		.progress = gc_progress,
		.arg = &progress,
	};
	struct gc_result res = { 0 };
	int r = 0;

	/* After a crash, what is garbage may still be shown at a key: first the reconciler's work. */
	if (!call->fs && opt.delete_it)
		r = reconcile_run_jobs(call->vol, call->op, opt.now, NULL, NULL, NULL);
	if (r == 0)
		r = gc_run(call->vol, call->op, &opt, &res);
	verb_progress_end(&progress);
	if (r < 0)
		return verb_fail(call, "given up after %" PRIu64 " objects: %s", res.objects,
				 verb_strerror(r));
	if (args->flags & FLAG_JSON)
		gc_print_json(call->out, &res, opt.delete_it);
	else
		gc_print(call->out, &res, opt.delete_it);
	return res.failed ? VERB_FAILED : VERB_OK;
}

/* --- fsck --- */

struct fsck_print {
	struct verb_progress progress;
	bool json, first;
};

static void fsck_problem(void *arg, const struct fsck_problem *p)
{
	struct fsck_print *x = arg;
	FILE *f = x->progress.call->out;
	bool first = true;

	if (!x->json) {
		verb_progress_end(&x->progress);
		fprintf(f, "%s: ", p->what);
		if (p->where[0])
			fprintf(f, "%s ", p->where);
		if (p->ino)
			fprintf(f, "(inode %" PRIu64 ") ", p->ino);
		fprintf(f, "- %s%s\n", p->detail, p->repaired ? " [repaired]" : "");
		return;
	}
	fputs(x->first ? "{" : ",\n  {", f);
	x->first = false;
	json_text(f, &first, "what", p->what);
	json_number(f, &first, "ino", p->ino);
	json_text(f, &first, "where", p->where);
	json_text(f, &first, "detail", p->detail);
	json_bool(f, &first, "repaired", p->repaired);
	fputc('}', f);
}

static void fsck_progress(void *arg, uint64_t done)
{
	verb_progress_show(&((struct fsck_print *)arg)->progress, done, 0);
}

static void fsck_print_json(FILE *f, const struct fsck_result *s)
{
	bool first = false;

	fputc(']', f);
	json_number(f, &first, "files", s->files);
	json_number(f, &first, "directories", s->directories);
	json_number(f, &first, "others", s->others);
	json_number(f, &first, "aliases", s->aliases);
	json_number(f, &first, "trash", s->trash);
	json_number(f, &first, "versions", s->versions);
	json_number(f, &first, "objects", s->objects);
	json_number(f, &first, "segments", s->segments);
	json_number(f, &first, "slices_documents", s->docs);
	json_number(f, &first, "stored", s->stored);
	json_number(f, &first, "unnamed", s->unnamed);
	json_number(f, &first, "waiting", s->waiting);
	json_number(f, &first, "keys", s->keys);
	json_number(f, &first, "jobs", s->jobs);
	json_number(f, &first, "problems_found", s->problems);
	json_number(f, &first, "repaired", s->repaired);
	json_number(f, &first, "problems_left", s->left);
	json_bool(f, &first, "clean", s->left == 0);
	fputs("}\n", f);
}

int verb_fsck(struct verb_call *call, const struct verb_args *args)
{
	struct fsck_print x = { .progress = { .call = call, .what = "checked" },
				.json = args->flags & FLAG_JSON,
				.first = true };
	struct fsck_options opt = {
		.repair = args->flags & FLAG_REPAIR,
		.online = call->fs != NULL || call->vol->cluster,
		.problem = fsck_problem,
		.progress = fsck_progress,
		.arg = &x,
	};
	struct fsck_result res = { 0 };
	int r;

	if (opt.repair && call->fs)
		return verb_fail(call, "--repair needs the volume unmounted");
	if (opt.repair) {
		MFS_AUTOFREE char *reason = NULL;

		r = volume_be_alone(call->vol, call->op, &reason);
		if (r < 0)
			return verb_fail(call, "%s", reason ? reason : verb_strerror(r));
		opt.online = false;
	}
	if (x.json)
		fputs("{\"problems\": [", call->out);
	r = fsck_run(call->vol, call->op, &opt, &res);
	verb_progress_end(&x.progress);
	if (x.json)
		fsck_print_json(call->out, &res);
	else
		fprintf(call->out,
			"%" PRIu64 " files, %" PRIu64 " directories, %" PRIu64 " others, %" PRIu64
			" removed, %" PRIu64 " versions, %" PRIu64 " keys, %" PRIu64 " jobs waiting: %s\n",
			res.files, res.directories, res.others, res.trash, res.versions, res.keys, res.jobs,
			r < 0		    ? "NOT ALL WAS CHECKED"
			: res.problems == 0 ? "clean"
			: res.left == 0	    ? "repaired"
					    : "PROBLEMS");
	if (r < 0)
		return verb_fail(call, "could not check everything: %s", verb_strerror(r));
	return res.left == 0 ? VERB_OK : VERB_FAILED;
}

/* --- for umount --- */

static void drain_progress(void *arg, uint64_t done, uint64_t total)
{
	verb_progress_show(arg, done, total);
}

int verb_drain(struct verb_call *call, const struct verb_args *args)
{
	struct verb_progress p = { .call = call, .what = "written" };
	int r;

	(void)args;
	if (!call->fs)
		return VERB_OK;
	r = massfs_drain(call->fs, call->op, drain_progress, &p);
	verb_progress_end(&p);
	return r < 0 ? verb_fail(call, "not all could be written: %s", verb_strerror(r)) : VERB_OK;
}

int verb_pid(struct verb_call *call, const struct verb_args *args)
{
	/* The server has told it already. */
	(void)call;
	(void)args;
	return VERB_OK;
}
