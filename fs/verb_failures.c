/*
 * failures: what storage rules refused, a page at a time, and the content of it brought back.
 *
 * Called by tools/cmd_failures.c: failures [OPTIONS] (paths in them are below the volume's root).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "fs/restore.h"
#include "fs/search.h"
#include "fs/verbs_internal.h"
#include "meta/expr.h"

struct failures {
	struct verb_call *call;
	struct failure_query q;
	const char *restore, *to;
	bool json;
	struct mfs_buf path; /* of --path */
	char last[64];	     /* the id of the last one told */
	uint64_t told;
};

static const char usage[] =
	"usage: massfs failures [--since=TIME] [--until=TIME] [--user=USER] [--path=PATH] [--kind=KIND] [--limit=N]\n"
	"                       [--after=ID] [--json] [MOUNT]\n"
	"       massfs failures --restore=ID [--to=PATH] [MOUNT]\n"
	"TIME is 2026-11-21, 2026-11-21T09:15:00 or an age, -2h; KIND is name, max_size, min_size, type or tags\n";

/* As searches read such a value. *ret: where it begins. False: it is none (told). */
static bool take_value(struct failures *x, const char *field, const char *text, int64_t *ret)
{
	struct expr_env env = { .now = mfs_now_ns(), .user = search_user };
	MFS_AUTOFREE char *expr = strchr(text, '\'') ? NULL : mfs_str_printf("%s = '%s'", field, text);
	MFS_AUTOFREE char *reason = NULL;
	MFS_AUTOEXPR struct expr *e = NULL;
	size_t column;

	if (!expr || expr_parse(expr, strlen(expr), &env, &e, &column, &reason) < 0) {
		(void)verb_fail(x->call, "%s: %s", text, reason ? reason : "not understood");
		return false;
	}
	*ret = e->terms[e->root].low;
	return true;
}

/* One option. False: it is none of ours, or its value is wrong. */
static bool take_option(struct failures *x, const char *arg)
{
	const char *value = strchr(arg, '=');
	size_t len = value ? (size_t)(value - arg) : strlen(arg);
	uint64_t n = 0;
	int64_t v;

	value = value ? value + 1 : NULL;
#define IS(name) (len == strlen(name) && memcmp(arg, name, len) == 0)
	if (!value)
		return IS("--json") && (x->json = true);
	if (IS("--since"))
		return take_value(x, "mtime", value, &x->q.since);
	if (IS("--until"))
		return take_value(x, "mtime", value, &x->q.until);
	if (IS("--user")) {
		x->q.by_uid = take_value(x, "owner", value, &v);
		x->q.uid = x->q.by_uid ? (uid_t)v : 0;
		return x->q.by_uid;
	}
	if (IS("--path"))
		return verb_path(x->call, value, &x->path) == 0 && (x->q.below = mfs_buf_str(&x->path));
	if (IS("--kind"))
		return (x->q.kind = value);
	if (IS("--after"))
		return (x->q.after = value);
	if (IS("--restore"))
		return *value && (x->restore = value);
	if (IS("--to"))
		return (x->to = value);
	if (!IS("--limit") || mfs_str_uint(value, 10, 1, SIZE_MAX, &n) < 0)
		return false;
#undef IS
	x->q.limit = (size_t)n;
	return true;
}

static bool parse(struct failures *x)
{
	for (int i = 1; i < x->call->argc; i++)
		if (!take_option(x, x->call->argv[i]))
			return false;
	return !x->to || x->restore;
}

/* --- looking --- */

static int print_failure(void *arg, const struct failure *f)
{
	struct failures *x = arg;
	char time[40], user[40], size[24];

	snprintf(x->last, sizeof(x->last), "%s", f->id);
	x->told++;
	if (x->json) {
		fprintf(x->call->out, "%s\n", f->json);
		return 0;
	}
	fprintf(x->call->out, "%s  %s  %s  %s  %s@%s%s%s  %s%s%s\n", f->id, mfs_str_put_time(time, sizeof(time), f->time),
		f->operation ? f->operation : "?", f->path ? f->path : "?",
		f->user ? f->user : verb_user_name(f->uid, user, sizeof(user)), f->host ? f->host : "?", f->address ? "=" : "",
		f->address ? f->address : "", f->reason ? f->reason : "?", f->kept ? "; kept, " : "",
		f->kept ? mfs_str_put_size(size, sizeof(size), f->size) : "");
	return 0;
}

static int list(struct failures *x)
{
	int r = namespace_failures(x->call->vol->ns, x->call->op, &x->q, print_failure, x);

	if (r < 0)
		return verb_fail(x->call, "%s", verb_strerror(r));
	if (x->q.limit && x->told == x->q.limit)
		fprintf(x->call->err, "there may be more: --after=%s\n", x->last);
	return VERB_OK;
}

/* --- bringing back --- */

struct wanted {
	const char *id; /* all of it, or how it ends */
	char *full, *path; /* of the one that was found; owned */
	unsigned int n;
	bool kept;
};

static int look(void *arg, const struct failure *f)
{
	struct wanted *w = arg;

	if (strcmp(f->id, w->id) != 0 && !mfs_str_ends(f->id, w->id))
		return 0;
	if (w->n++)
		return 0;
	w->kept = f->kept;
	w->full = strdup(f->id);
	w->path = strdup(f->path ? f->path : "");
	return w->full && w->path ? 0 : -ENOMEM;
}

static int make_file(struct verb_call *call, const char *path, const struct past *p, mfs_ino_t *ret, mfs_ino_t *ret_parent)
{
	struct node n = NODE_INIT;
	struct mfs_attr attr;
	struct entry dir;
	const char *name;
	int r = verb_parent(call, path, W_OK, &dir, &name);

	if (r < 0)
		return r;
	*ret_parent = dir.node.attr.ino;
	r = namespace_make(call->vol->ns, call->op,
			   &(struct make){ .parent = dir.node.attr.ino, .name = name, .name_len = strlen(name), .mode = S_IFREG | (p->mode & 0777u) },
			   &n);
	entry_release(&dir);
	if (r < 0)
		return r;
	*ret = n.attr.ino;
	node_release(&n);
	return namespace_setattr(call->vol->ns, call->op, *ret,
				 &(struct set_attr){ .mask = EDIT_MODE | EDIT_UID | EDIT_GID, .mode = p->mode & 07777u, .uid = p->uid, .gid = p->gid },
				 &attr);
}

static int put_back(struct verb_call *call, const char *path, const struct past *p)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	mfs_ino_t ino = 0, parent = 0;
	struct entry e;
	int r = namespace_resolve(call->vol->ns, call->op, path, strlen(path), &e);

	if (r == 0) {
		r = attr_is_reg(&e.node.attr) ? 0 : -EISDIR;
		ino = e.node.attr.ino;
		parent = e.parent;
		entry_release(&e);
	} else if (r == -ENOENT) {
		r = make_file(call, path, p, &ino, &parent);
	}
	if (r == 0)
		r = restore_content(call, p, ino);
	if (ino)
		verb_changed(call, ino, parent, name);
	return r;
}

static int restore_to(struct failures *x, const struct wanted *w)
{
	MFS_AUTOFREE char *kept_as = mfs_str_printf(REFUSED_PATH "%s", w->full);
	MFS_AUTOBUF struct mfs_buf to = MFS_BUF_INIT(VERB_PATH_MAX);
	struct verb_call *call = x->call;
	struct past_list l = { 0 };
	int r = kept_as ? verb_path(call, x->to ? x->to : w->path, &to) : -ENOMEM;

	if (r == 0)
		r = namespace_past(call->vol->ns, call->op, kept_as, &l);
	if (r == 0)
		r = l.n ? put_back(call, mfs_buf_str(&to), &l.v[0]) : -ENODATA;
	past_list_release(&l);
	if (r < 0)
		return verb_fail(call, "%s: %s", mfs_buf_str(&to),
				 r == -ENODATA ? "its content is not kept any more (retention has ended)"
				 : r == -ENOENT ? "the folder is not there; make it, or say --to=PATH"
						: verb_strerror(r));
	fprintf(call->out, "%s has what was refused\n", mfs_buf_str(&to));
	return VERB_OK;
}

static int restore(struct failures *x)
{
	struct wanted w = { .id = x->restore };
	int status, r = namespace_failures(x->call->vol->ns, x->call->op, &(struct failure_query){ 0 }, look, &w);

	if (r < 0)
		status = verb_fail(x->call, "%s", verb_strerror(r));
	else if (w.n != 1)
		status = verb_fail(x->call, "%s: %s", w.id, w.n ? "several failures end like this; say more of it" : "there is no such failure");
	else if (!w.kept)
		status = verb_fail(x->call, "%s: it had no content: nothing was written", w.id);
	else
		status = restore_to(x, &w);
	free(w.full);
	free(w.path);
	return status;
}

int verb_failures(struct verb_call *call, const struct verb_args *args)
{
	struct failures x = { .call = call, .path = MFS_BUF_INIT(VERB_PATH_MAX) };
	int status;

	(void)args;
	if (parse(&x)) {
		status = x.restore ? restore(&x) : list(&x);
	} else {
		fputs(usage, call->err);
		status = VERB_USAGE;
	}
	mfs_buf_release(&x.path);
	return status;
}
