/*
 * import: what other programs did among the objects is taken over. Files that they put at a key become the next version
 * of the file at that path, or a new file; with --deletes, files whose object they removed are removed here too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/reconcile.h"
#include "fs/verbs_internal.h"

struct imports {
	struct verb_call *call;
	struct verb_progress progress;
	const char *path; /* as a key; "" is all */
	char *last;	  /* covered() has been there */
	uint64_t imported, removed, failed;
};

static bool is_in(const struct imports *x, const char *key)
{
	size_t len = strlen(x->path);

	return strncmp(key, x->path, len) == 0 && (!len || !key[len] || key[len] == '/');
}

/*
 * An upload of ours whose version is gone, as a killed process or a damaged store leaves it: it may be content that no
 * close confirmed, or the last copy of what the index names. Only who names this very file knows that he wants it.
 */
static bool is_asked_for(const struct imports *x, const char *key, const struct object_info *info)
{
	struct object_info exact;

	return strcmp(x->path, key) == 0 &&
	       object_head(x->call->vol->store, x->call->op, NULL, key, info->version, &exact) == -ENOENT;
}

static int look(void *arg, const char *key, const struct object_info *info)
{
	struct imports *x = arg;
	int r;

	if (atomic_load(&x->call->op->cancelled))
		return -ECANCELED;
	if (!is_in(x, key) || (info->own && !is_asked_for(x, key, info)))
		return 0;
	r = reconcile_import_key(x->call->vol, x->call->op, key);
	x->imported += r == 1;
	if (r < 0) {
		x->failed++;
		verb_progress_end(&x->progress);
		verb_fail(x->call, "%s: %s", key,
			  r == -EAGAIN	? "it is being written; try again later"
			  : r == -EPERM ? "it is no path"
					: verb_strerror(r));
	}
	verb_progress_show(&x->progress, x->imported, 0);
	return r == -ECANCELED ? r : 0;
}

/* What an upload of ours covered before it was imported. Of a folder that would be a list of all versions there are. */
static int import_past(struct imports *x, const char *key)
{
	int r = reconcile_import_past(x->call->vol, x->call->op, key);

	if (r > 0)
		x->imported += (uint64_t)r;
	if (r < 0 && r != -ECANCELED) {
		x->failed++;
		verb_progress_end(&x->progress);
		verb_fail(x->call, "%s: an older version: %s", key, verb_strerror(r));
		r = 0;
	}
	return MFS_MIN(r, 0);
}

/* A key's versions follow each other. */
static int covered(void *arg, const char *key, const struct object_info *info)
{
	struct imports *x = arg;

	if (atomic_load(&x->call->op->cancelled))
		return -ECANCELED;
	if (!key || info->own || info->is_marker || (x->last && strcmp(x->last, key) == 0))
		return 0;
	free(x->last);
	x->last = strdup(key);
	return x->last ? import_past(x, key) : -ENOMEM;
}

static int find_covered(struct imports *x)
{
	if (!(object_store_caps(x->call->vol->store) & OBJECT_CAP_KEY_HIDES))
		return 0;
	if (*x->path)
		return import_past(x, x->path);
	return object_list_versions(x->call->vol->store, x->call->op, NULL, covered, x);
}

static int remove_one(void *arg, mfs_ino_t parent, const char *name, const char *key)
{
	struct imports *x = arg;
	struct mfs_attr attr;
	int r = namespace_unlink(x->call->vol->ns, x->call->op, parent, name, strlen(name), &attr);

	if (r < 0) {
		x->failed++;
		verb_fail(x->call, "%s: %s", key, verb_strerror(r));
		return 0;
	}
	x->removed++;
	verb_changed(x->call, attr.ino, parent, name);
	fprintf(x->call->out, "removed %s (massfs undelete brings it back)\n", key);
	return 0;
}

int verb_import(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX);
	struct imports x = { .call = call, .progress = { .call = call, .what = "imported" } };
	int r = verb_path(call, args->operand ? args->operand : "", &path);

	if (r < 0)
		return verb_fail(call, "%s: %s", args->operand ? args->operand : "/", verb_strerror(r));
	x.path = mfs_buf_str(&path);
	r = object_list_keys(call->vol->store, call->op, NULL, x.path, look, &x);
	if (r == 0)
		r = find_covered(&x);
	free(x.last);
	/* Another program's copy of an object of ours onto its own key looks as ours does: the reconciler puts what is right on top. */
	if (r == 0 && *x.path && !(args->flags & FLAG_DELETES))
		r = reconcile_queue_key(call->vol, call->op, x.path);
	verb_progress_end(&x.progress);
	if (r == 0 && (args->flags & FLAG_DELETES))
		r = reconcile_find_removed(call->vol, call->op, x.path, remove_one, &x);
	if (r < 0)
		return verb_fail(call, "%s", verb_strerror(r));
	fprintf(call->out, "%" PRIu64 " imported", x.imported);
	if (args->flags & FLAG_DELETES)
		fprintf(call->out, ", %" PRIu64 " removed", x.removed);
	fputc('\n', call->out);
	return x.failed ? VERB_FAILED : VERB_OK;
}
