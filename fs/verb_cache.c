/*
 * warmup: bring files and trees into the cache. evict: drop them from it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/str.h"
#include "fs/fs.h"
#include "fs/fuse/notify.h"
#include "fs/verbs_internal.h"
#include "fs/warmup.h"

struct shown {
	struct verb_call *call;
	struct verb_progress progress;
};

static void show(void *arg, uint64_t files, uint64_t bytes)
{
	struct shown *x = arg;

	(void)bytes;
	verb_progress_show(&x->progress, files, 0);
}

static void forget_pages(void *arg, mfs_ino_t ino)
{
	struct shown *x = arg;

	if (x->call->fs)
		notify_inode(x->call->fs->notifier, ino, true);
}

static const char *where(const struct verb_call *call)
{
	return call->vol->cache ? "block cache" : "operating system";
}

static void print_json(struct verb_call *call, const char *path, bool evict, const struct warmup_result *res)
{
	bool first = true;

	fputc('{', call->out);
	json_text(call->out, &first, "path", path);
	json_text(call->out, &first, evict ? "evicted_from" : "cached_by", where(call));
	json_number(call->out, &first, "files", res->files);
	json_number(call->out, &first, "bytes", res->bytes);
	json_number(call->out, &first, "denied", res->denied);
	json_number(call->out, &first, "failed", res->failed);
	fputs("}\n", call->out);
}

static void print_text(struct verb_call *call, const char *as, bool evict, const struct warmup_result *res)
{
	char size[24];

	fprintf(call->out, "%s: %" PRIu64 " files, %s %s%s\n", as, res->files,
		mfs_str_put_size(size, sizeof(size), res->bytes), evict ? "evicted" : "read",
		call->vol->cache ? (evict ? " from the cache" : " into the cache")
				 : " (there is no block cache: the operating system's is meant)");
}

/* Who waits, or there is no daemon that could do it later. */
static int run_now(struct verb_call *call, const struct verb_args *args, const char *as, mfs_ino_t ino,
		   bool evict)
{
	struct shown x = { .call = call, .progress = { .call = call, .what = evict ? "evicted" : "read" } };
	struct warmup_options opt = {
		.evict = evict, .cred = call->cred, .progress = show, .dropped = forget_pages, .arg = &x
	};
	struct warmup_result res = { 0 };
	int r = warmup_run(call->vol, call->op, ino, &opt, &res);

	verb_progress_end(&x.progress);
	if (args->flags & FLAG_JSON)
		print_json(call, as, evict, &res);
	else if (r == 0)
		print_text(call, as, evict, &res);
	if (r < 0)
		return verb_fail(call, "%s: given up after %" PRIu64 " files: %s", as, res.files,
				 verb_strerror(r));
	if (res.failed)
		return verb_fail(call, "%s: %" PRIu64 " files could not be read: %s", as, res.failed,
				 verb_strerror(res.error));
	if (res.denied)
		return verb_fail(call, "%s: %" PRIu64 " files or folders in it may not be read by this user",
				 as, res.denied);
	return VERB_OK;
}

static int start_later(struct verb_call *call, const struct verb_args *args, const char *as, mfs_ino_t ino)
{
	bool first = true;
	int r = warmer_submit(call->fs->warmer, ino, &call->cred);

	if (r == -EBUSY)
		return verb_fail(call, "%s: too many wait to be read already; try again, or --wait", as);
	if (r < 0)
		return verb_fail(call, "%s: %s", as, verb_strerror(r));
	if (args->flags & FLAG_JSON) {
		fputc('{', call->out);
		json_text(call->out, &first, "path", as);
		json_text(call->out, &first, "cached_by", where(call));
		json_bool(call->out, &first, "started", true);
		fputs("}\n", call->out);
	} else if (!call->vol->cache) {
		fprintf(call->out,
			"%s: is being read; there is no block cache, so that the operating system caches it\n",
			as);
	}
	return VERB_OK;
}

static int run_verb(struct verb_call *call, const struct verb_args *args, bool evict)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), shown = MFS_BUF_INIT(VERB_PATH_MAX);
	const char *as = verb_shown(call, args->operand, &shown);
	struct entry e;
	mfs_ino_t ino;
	bool usable;
	int r = verb_path(call, args->operand, &path);

	if (r == 0)
		r = namespace_resolve_as(call->vol->ns, call->op, &call->cred, mfs_buf_str(&path), path.len,
					 R_OK, &e);
	if (r < 0)
		return verb_fail(call, "%s: %s", as, verb_strerror(r));
	ino = e.node.attr.ino;
	usable = attr_is_dir(&e.node.attr) || attr_is_reg(&e.node.attr);
	entry_release(&e);
	if (!usable)
		return verb_fail(call, "%s: neither a file nor a folder", as);
	if (!evict && call->fs && call->fs->warmer && !(args->flags & FLAG_WAIT))
		return start_later(call, args, as, ino);
	return run_now(call, args, as, ino, evict);
}

int verb_warmup(struct verb_call *call, const struct verb_args *args)
{
	return run_verb(call, args, false);
}

int verb_evict(struct verb_call *call, const struct verb_args *args)
{
	return run_verb(call, args, true);
}
