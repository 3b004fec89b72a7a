/*
 * versions: what was at a path, newest first. restore: bring one of them back, as a new version of what is there now.
 *
 * A version is called by the time its content was last modified, 20261121T091500Z; where two share that second (what
 * is there now counts too: it will be a version), with its data counter behind it (20261121T091500Z-7), and its inode
 * if need be (20261121T091500Z-7.1042). restore takes the long forms of every version, and the bare data counter.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "fs/restore.h"
#include "fs/verbs_internal.h"

#define NAME_BYTES 96

/* How long a version's name has to be. */
enum name_form { BY_TIME, BY_DATA, BY_INO, N_FORMS };

static void version_name(const struct past *p, enum name_form form, char *buf, size_t size)
{
	char time[40];

	mfs_str_put_time_short(time, sizeof(time), p->mtime);
	if (form == BY_TIME)
		snprintf(buf, size, "%s", time);
	else if (form == BY_DATA)
		snprintf(buf, size, "%s-%" PRIu64, time, p->data);
	else
		snprintf(buf, size, "%s-%" PRIu64 ".%" PRIu64, time, p->data, p->ino);
}

static bool is_unique(const struct past_list *l, const struct past *now, size_t which, enum name_form form)
{
	char mine[NAME_BYTES], other[NAME_BYTES];

	version_name(&l->v[which], form, mine, sizeof(mine));
	if (now) {
		version_name(now, form, other, sizeof(other));
		if (strcmp(mine, other) == 0)
			return false;
	}
	for (size_t i = 0; i < l->n; i++) {
		version_name(&l->v[i], form, other, sizeof(other));
		if (i != which && strcmp(mine, other) == 0)
			return false;
	}
	return true;
}

/* The shortest that names it alone. (A version and a removal of one inode may share all: the newer is meant.) */
static void unique_name(const struct past_list *l, const struct past *now, size_t which, char *buf,
			size_t size)
{
	enum name_form form = BY_TIME;

	while (form < BY_INO && !is_unique(l, now, which, form))
		form++;
	version_name(&l->v[which], form, buf, size);
}

/* *ret_several: the name is that of more than one; NULL is returned then. */
static const struct past *find_version(const struct past_list *l, const char *name, bool *ret_several)
{
	const struct past *found = NULL;
	char buf[NAME_BYTES];
	uint64_t data;

	*ret_several = false;
	for (size_t i = 0; i < l->n; i++) {
		version_name(&l->v[i], BY_TIME, buf, sizeof(buf));
		if (strcmp(buf, name) != 0)
			continue;
		*ret_several = found;
		found = &l->v[i];
	}
	if (found)
		return *ret_several ? NULL : found;
	for (enum name_form form = BY_DATA; form < N_FORMS; form++) {
		for (size_t i = 0; i < l->n; i++) {
			version_name(&l->v[i], form, buf, sizeof(buf));
			if (strcmp(buf, name) == 0)
				return &l->v[i];
		}
	}
	if (mfs_str_uint(name, 10, 0, UINT64_MAX, &data) == 0)
		for (size_t i = 0; i < l->n; i++)
			if (l->v[i].data == data)
				return &l->v[i];
	return NULL;
}

/* --- versions --- */

static void print_past_json(struct verb_call *call, const struct past *p, const char *name, const char *why)
{
	FILE *f = call->out;
	bool first = true;
	char user[40];

	fputc('{', f);
	json_text(f, &first, "version", name);
	json_bool(f, &first, "current", !why);
	json_number(f, &first, "ino", p->ino);
	json_number(f, &first, "data", p->data);
	json_number(f, &first, "size", p->size);
	json_time(f, &first, "mtime", p->mtime);
	json_text(f, &first, "owner", verb_user_name(p->uid, user, sizeof(user)));
	json_number(f, &first, "uid", p->uid);
	json_number(f, &first, "mode", p->mode & 07777u);
	if (why) {
		json_text(f, &first, "why", why);
		json_time(f, &first, "ended", p->ended);
		if (p->until == INT64_MAX)
			json_text(f, &first, "until", NULL);
		else
			json_time(f, &first, "until", p->until);
	}
	fputc('}', f);
}

static void print_past(struct verb_call *call, const struct past *p, const char *name, const char *why)
{
	char size[24], user[40], until[40];

	fprintf(call->out, "%-28s %10s  %-12s %-9s %s\n", name, mfs_str_put_size(size, sizeof(size), p->size),
		verb_user_name(p->uid, user, sizeof(user)), why ? why : "current",
		!why			? "-"
		: p->until == INT64_MAX ? "for ever"
					: mfs_str_put_time_short(until, sizeof(until), p->until));
}

/* What is there now, as an entry of the list. */
static struct past of_node(const struct node *n)
{
	return (struct past){ .ino = n->attr.ino,
			      .data = n->attr.data,
			      .size = n->attr.size,
			      .mtime = n->attr.mtime,
			      .mode = n->attr.mode,
			      .uid = n->attr.uid,
			      .gid = n->attr.gid };
}

/* What is there now is no version yet: it is shown by the name that it will have. */
static void now_name(const struct past_list *l, const struct past *now, char *buf, size_t size)
{
	char other[NAME_BYTES];

	version_name(now, BY_TIME, buf, size);
	for (size_t i = 0; i < l->n; i++) {
		version_name(&l->v[i], BY_TIME, other, sizeof(other));
		if (strcmp(buf, other) == 0) {
			version_name(now, BY_DATA, buf, size);
			return;
		}
	}
}

static void print_list(struct verb_call *call, const struct past_list *l, const struct past *now, bool json)
{
	char name[NAME_BYTES];

	if (json)
		fputc('[', call->out);
	else
		fprintf(call->out, "%-28s %10s  %-12s %-9s %s\n", "VERSION", "SIZE", "OWNER", "WHY",
			"KEPT UNTIL");
	if (now) {
		now_name(l, now, name, sizeof(name));
		(json ? print_past_json : print_past)(call, now, name, NULL);
	}
	for (size_t i = 0; i < l->n; i++) {
		unique_name(l, now, i, name, sizeof(name));
		if (json && (i || now))
			fputs(",\n ", call->out);
		(json ? print_past_json : print_past)(call, &l->v[i], name,
						      l->v[i].is_trash ? "removed" : "replaced");
	}
	if (json)
		fputs("]\n", call->out);
}

/*
 * May the caller look at what was at this path: search permission above it. Where the folder itself is gone nobody can
 * say any more who might, so only root may then.
 */
static int may_look(struct verb_call *call, const char *path)
{
	const char *name;
	struct entry e;
	int r = verb_parent(call, path, 0, &e, &name);

	if (r == 0)
		entry_release(&e);
	return (r == -ENOENT || r == -ENOTDIR) ? (verb_is_admin(call) ? 0 : -EACCES) : r;
}

int verb_versions(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), shown = MFS_BUF_INIT(VERB_PATH_MAX);
	const char *as = verb_shown(call, args->operand, &shown);
	struct past_list l = { 0 };
	struct entry e = { 0 };
	struct past now = { 0 };
	bool is_there;
	int r = verb_path(call, args->operand, &path);

	if (r == 0)
		r = may_look(call, mfs_buf_str(&path));
	if (r == 0)
		r = namespace_past(call->vol->ns, call->op, mfs_buf_str(&path), &l);
	if (r < 0)
		return verb_fail(call, "%s: %s", as, verb_strerror(r));
	is_there = namespace_resolve(call->vol->ns, call->op, mfs_buf_str(&path), path.len, &e) == 0;
	if (is_there)
		now = of_node(&e.node);
	if (!is_there && l.n == 0)
		r = verb_fail(call, "%s: nothing is or was at this path", as);
	else
		print_list(call, &l, is_there && attr_is_reg(&e.node.attr) ? &now : NULL,
			   args->flags & FLAG_JSON);
	if (is_there)
		entry_release(&e);
	past_list_release(&l);
	return r == 0 ? VERB_OK : VERB_FAILED;
}

/* --- restore --- */

struct restore {
	struct verb_call *call;
	const char *path, *as; /* below the volume's root; as the user knows it */
	const char *name; /* last component of path */
	const struct past *p;
};

/* Read permission on the file as it was then. */
static int may_read(struct verb_call *call, const struct past *p)
{
	struct node n = NODE_INIT;

	n.attr.mode = p->mode;
	n.attr.uid = p->uid;
	n.attr.gid = p->gid;
	return namespace_access(&n, &call->cred, R_OK);
}

/* A new file at the path, as the version's was. */
static int make_file(struct restore *x, mfs_ino_t parent, mfs_ino_t *ret)
{
	struct verb_call *call = x->call;
	struct make m = { .parent = parent,
			  .name = x->name,
			  .name_len = strlen(x->name),
			  .mode = S_IFREG | (x->p->mode & 0777u) };
	struct node n = NODE_INIT;
	int r = namespace_make(call->vol->ns, call->op, &m, &n);

	if (r < 0)
		return r;
	*ret = n.attr.ino;
	node_release(&n);
	if (call->cred.uid == 0) {
		struct set_attr sa = { .mask = EDIT_MODE | EDIT_UID | EDIT_GID,
				       .mode = x->p->mode & 07777u,
				       .uid = x->p->uid,
				       .gid = x->p->gid };
		struct mfs_attr attr;

		r = namespace_setattr(call->vol->ns, call->op, *ret, &sa, &attr);
	}
	return r;
}

/* Nothing is at the path: the removed file itself comes back if it was removed from here, else a new one is made. */
static int restore_to_nothing(struct restore *x, const struct past_list *l)
{
	struct verb_call *call = x->call;
	bool undeleted = false;
	struct mfs_attr attr;
	struct entry dir;
	const char *name;
	mfs_ino_t ino = x->p->ino, parent;
	int r = verb_parent(call, x->path, W_OK, &dir, &name);

	if (r < 0)
		return r;
	parent = dir.node.attr.ino;
	entry_release(&dir);
	for (size_t i = 0; i < l->n && !undeleted && r == 0; i++) {
		if (!l->v[i].is_trash || l->v[i].ino != ino)
			continue;
		r = namespace_undelete(call->vol->ns, call->op, ino, parent, name, strlen(name), &attr);
		undeleted = r == 0;
		if (r == -ENOENT)
			r = 0; /* purged just now: its content may still be a version */
	}
	if (r == 0 && !undeleted)
		r = make_file(x, parent, &ino);
	if (r == 0 && !(undeleted && x->p->is_trash))
		r = restore_content(call, x->p, ino);
	verb_changed(call, ino, parent, name);
	return r;
}

static int restore_over(struct restore *x, const struct entry *now)
{
	int r = attr_is_reg(&now->node.attr) ? namespace_access(&now->node, &x->call->cred, W_OK) : -EISDIR;

	if (r == 0)
		r = restore_content(x->call, x->p, now->node.attr.ino);
	if (r == 0)
		verb_changed(x->call, now->node.attr.ino, now->parent, x->name);
	return r;
}

static int do_restore(struct restore *x, const struct past_list *l, const char *version, unsigned int flags)
{
	struct entry now;
	bool several;
	int r;

	x->p = find_version(l, version, &several);
	if (several)
		return verb_fail(x->call, "%s has several versions of %s; massfs versions tells them apart",
				 x->as, version);
	if (!x->p)
		return verb_fail(x->call, "%s has no version %s; massfs versions lists them", x->as, version);
	if ((x->p->mode & S_IFMT) && !S_ISREG(x->p->mode))
		return verb_fail(x->call, "%s@%s is no file; massfs undelete brings it back", x->as, version);
	r = may_read(x->call, x->p);
	if (r < 0)
		return verb_fail(x->call, "%s@%s: %s", x->as, version, verb_strerror(r));
	if (flags & FLAG_STDOUT) {
		r = restore_print(x->call, x->p);
	} else {
		r = namespace_resolve(x->call->vol->ns, x->call->op, x->path, strlen(x->path), &now);
		if (r == 0) {
			r = restore_over(x, &now);
			entry_release(&now);
		} else if (r == -ENOENT) {
			r = restore_to_nothing(x, l);
		}
	}
	if (r < 0)
		return verb_fail(x->call, "%s@%s: %s", x->as, version,
				 r == -ENOENT  ? "the folder it was in is gone; make it first"
				 : r == -ENODATA ? "its content is not there any more (retention has ended, or see massfs fsck)"
						 : verb_strerror(r));
	if (!(flags & FLAG_STDOUT))
		fprintf(x->call->out, "%s is what it was as %s\n", x->as, version);
	return VERB_OK;
}

int verb_restore(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), shown = MFS_BUF_INIT(VERB_PATH_MAX);
	MFS_AUTOFREE char *operand = strdup(args->operand);
	char *at = operand ? strrchr(operand, '@') : NULL;
	struct restore x = { .call = call };
	struct past_list l = { 0 };
	const char *slash;
	int r, status;

	if (!operand)
		return verb_fail(call, "no memory");
	if (!at || at == operand || !at[1] || strchr(at, '/'))
		return verb_fail(call, "%s: say which version, as in FILE@20261121T091500Z", operand);
	*at = '\0';
	x.as = verb_shown(call, operand, &shown);
	r = verb_path(call, operand, &path);
	x.path = mfs_buf_str(&path);
	slash = strrchr(x.path, '/');
	x.name = slash ? slash + 1 : x.path;
	if (r == 0)
		r = may_look(call, x.path);
	if (r == 0)
		r = namespace_past(call->vol->ns, call->op, x.path, &l);
	if (r < 0)
		return verb_fail(call, "%s: %s", x.as, verb_strerror(r));
	status = do_restore(&x, &l, at + 1, args->flags);
	past_list_release(&l);
	return status;
}
