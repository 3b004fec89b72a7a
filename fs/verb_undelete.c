/*
 * undelete: the newest file removed at a path comes back under its old name, as the same inode. With --recursive every
 * file removed below a directory; with --list what there is to bring back.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"
#include "fs/verbs_internal.h"

#define PAGE 1000

/* Make what is missing of the directories of a path. */
static int make_parents(struct verb_call *call, const char *path)
{
	MFS_AUTOFREE char *part = strdup(path);
	const char *name;
	struct entry dir;

	if (!part)
		return -ENOMEM;
	for (char *slash = strchr(part, '/'); slash; slash = strchr(slash + 1, '/')) {
		struct entry there;
		struct node n = NODE_INIT;
		struct make m;
		int r;

		*slash = '\0';
		r = namespace_resolve(call->vol->ns, call->op, part, strlen(part), &there);
		if (r == 0) {
			entry_release(&there);
		} else if (r == -ENOENT) {
			r = verb_parent(call, part, W_OK, &dir, &name);
			if (r < 0)
				return r;
			m = (struct make){ .parent = dir.node.attr.ino,
					   .name = name,
					   .name_len = strlen(name),
					   .mode = S_IFDIR | 0755 };
			r = namespace_make(call->vol->ns, call->op, &m, &n);
			node_release(&n);
			verb_changed(call, 0, m.parent, name);
			entry_release(&dir);
		}
		if (r < 0 && r != -EEXIST)
			return r;
		*slash = '/';
	}
	return 0;
}

static int undelete_ino(struct verb_call *call, const char *path, mfs_ino_t ino)
{
	struct mfs_attr attr;
	struct entry dir;
	const char *name;
	int r = make_parents(call, path);

	if (r == 0)
		r = verb_parent(call, path, W_OK, &dir, &name);
	if (r < 0)
		return r;
	r = namespace_undelete(call->vol->ns, call->op, ino, dir.node.attr.ino, name, strlen(name), &attr);
	if (r == 0)
		verb_changed(call, ino, dir.node.attr.ino, name);
	entry_release(&dir);
	return r;
}

/* The newest that was removed at exactly this path. -ENOENT: none. */
static int undelete_newest(struct verb_call *call, const char *path)
{
	struct node_list l = NODE_LIST_INIT;
	int r = engine_trash_by_path(call->vol->engine, call->op, path, &l);

	if (r == 0)
		r = l.n ? undelete_ino(call, path, l.v[0].attr.ino) : -ENOENT;
	node_list_release(&l);
	return r;
}

/* --- everything below a directory --- */

struct below {
	struct verb_call *call;
	const char *dir; /* "" is the root */
	bool json, first;
	uint64_t n, failed;
};

static bool is_below(const char *dir, const char *path)
{
	size_t len = strlen(dir);

	return len == 0 || strcmp(path, dir) == 0 || (strncmp(path, dir, len) == 0 && path[len] == '/');
}

static void list_one(struct below *b, const struct node *n)
{
	FILE *f = b->call->out;
	char time[40], size[24];
	bool first = true;

	if (!b->json) {
		fprintf(f, "%s  %10s  %s\n", mfs_str_put_time_short(time, sizeof(time), n->trash_time),
			mfs_str_put_size(size, sizeof(size), n->attr.size), n->trash_path);
		return;
	}
	fputs(b->first ? "{" : ",\n {", f);
	b->first = false;
	json_text(f, &first, "path", n->trash_path);
	json_time(f, &first, "removed", n->trash_time);
	json_number(f, &first, "ino", n->attr.ino);
	json_number(f, &first, "size", n->attr.size);
	fputc('}', f);
}

/* Only the newest of its path comes back; the others stay, as versions of it. */
static void undelete_one(struct below *b, const struct node *n)
{
	int r = undelete_newest(b->call, n->trash_path);

	if (r == -EEXIST || r == -ENOENT)
		return; /* done by a newer one, or something new is there */
	if (r < 0) {
		verb_fail(b->call, "%s: %s", n->trash_path, verb_strerror(r));
		b->failed++;
	} else {
		b->n++;
	}
}

static int walk_trash(struct below *b, void (*fn)(struct below *b, const struct node *n))
{
	struct query q = { .limit = PAGE, .trash = true };
	size_t n;
	int r;

	do {
		struct node_list l = NODE_LIST_INIT;

		r = engine_query(b->call->vol->engine, b->call->op, &q, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			q.after = l.v[i].attr.ino;
			if (l.v[i].trash_path && is_below(b->dir, l.v[i].trash_path))
				fn(b, &l.v[i]);
		}
		node_list_release(&l);
	} while (r == 0 && n == PAGE && !atomic_load(&b->call->op->cancelled));
	return r;
}

/* Read and search permission on the directory, or, where that is gone, on nothing: root only. */
static int may_list(struct verb_call *call)
{
	/* What lies deeper has permissions of its own, some of directories that are gone. */
	return verb_is_admin(call) ? 0 : -EPERM;
}

int verb_undelete(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), shown = MFS_BUF_INIT(VERB_PATH_MAX);
	const char *as = verb_shown(call, args->operand, &shown);
	struct below b = { .call = call, .json = args->flags & FLAG_JSON, .first = true };
	int r = verb_path(call, args->operand, &path);

	b.dir = mfs_buf_str(&path);
	if (r == 0 && (args->flags & (FLAG_LIST | FLAG_RECURSIVE))) {
		r = may_list(call);
		if (r == -EPERM)
			return verb_fail(call,
					 "%s: only root may look through all that was removed below a folder",
					 as);
		if (r == 0 && b.json && (args->flags & FLAG_LIST))
			fputc('[', call->out);
		if (r == 0)
			r = walk_trash(&b, args->flags & FLAG_LIST ? list_one : undelete_one);
		if (r == 0 && b.json && (args->flags & FLAG_LIST))
			fputs("]\n", call->out);
		if (r == 0 && !(args->flags & FLAG_LIST))
			fprintf(call->out, "%" PRIu64 " files are back\n", b.n);
	} else if (r == 0) {
		r = undelete_newest(call, b.dir);
		if (r == 0)
			fprintf(call->out, "%s is back\n", as);
	}
	if (r == -ENOENT)
		return verb_fail(call, "%s: nothing was removed at this path (or it is gone for good)", as);
	if (r == -EEXIST)
		return verb_fail(
			call,
			"%s: something is there now; `massfs versions` lists what was, `massfs restore` brings it back",
			as);
	if (r < 0)
		return verb_fail(call, "%s: %s", as, verb_strerror(r));
	return b.failed ? VERB_FAILED : VERB_OK;
}
