/*
 * All that the records of one inode name: the current or trash record, and its versions; of each the object, the
 * segments and the slices documents.
 *
 * Names wander from the record to a version to `dropped`, each step in one change, so they are read in that order: what
 * is missed in the record has arrived in the versions. Versions of objects are kept as hashes: a collision keeps one
 * piece of garbage, no more.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/log.h"
#include "fs/gc_internal.h"
#include "meta/layout.h"
#include "meta/shared.h"

#define SHARED_TRIES 8 /* while others share it */

uint64_t gc_version_hash(const char *version)
{
	return mfs_hash64(version, strlen(version));
}

int gc_set_add(struct gc_set *s, uint64_t value)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		uint64_t *v = reallocarray(s->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = value;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void gc_set_sort(struct gc_set *s)
{
	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), by_value);
}

bool gc_set_has(const struct gc_set *s, uint64_t value)
{
	return s->n && bsearch(&value, s->v, s->n, sizeof(value), by_value);
}

void gc_set_release(struct gc_set *s)
{
	free(s->v);
	*s = (struct gc_set){ .v = NULL };
}

void gc_names_release(struct gc_names *names)
{
	gc_set_release(&names->versions);
	gc_set_release(&names->docs);
	*names = (struct gc_names){ 0 };
}

static int add_one(void *arg, const struct segment *s, uint64_t doc_id)
{
	struct gc_names *names = arg;

	return s ? gc_set_add(&names->versions, gc_version_hash(s->version)) : gc_set_add(&names->docs, doc_id);
}

static int add_state(struct gc_names *names, struct op_ctx *op, mfs_ino_t ino, const struct object_ref *ref,
		     const struct node_blob *slices)
{
	int r = 0;

	if (!object_ref_is_empty(ref))
		r = gc_set_add(&names->versions, gc_version_hash(ref->version));
	if (r == 0 && slices->size)
		r = layout_diff(slices, NULL, add_one, names);
	if (r != -EUCLEAN)
		return r;
	/* Whatever it says, it may mean any of the file's objects. */
	if (!names->all)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
			"inode=%" PRIu64 " the layout of a state of it cannot be read: nothing of this file is collected; "
			"run massfs fsck",
			ino);
	names->all = true;
	return 0;
}

static int add_versions(struct volume *v, struct op_ctx *op, mfs_ino_t ino, struct gc_names *names)
{
	struct version_list l = { 0 };
	int r = engine_versions_by_ino(v->engine, op, ino, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = add_state(names, op, ino, &l.v[i].ref, &l.v[i].slices);
	version_list_release(&l);
	return r;
}

int gc_names_read(struct volume *v, struct op_ctx *op, mfs_ino_t ino, struct gc_names *names)
{
	struct op_ctx fresh = op_ctx_fresh(op);
	struct node n = NODE_INIT;
	int r;

	if (names->ino == ino)
		return 0;
	names->ino = 0;
	names->all = false;
	names->versions.n = names->docs.n = 0;
	r = engine_get(v->engine, &fresh, ino, &n);
	if (r == 0) {
		r = add_state(names, op, ino, &n.ref, &n.slices);
		node_release(&n);
	} else if (r == -ESTALE) {
		r = 0;
	}
	if (r == 0)
		r = add_versions(v, op, ino, names);
	if (r < 0)
		return r;
	gc_set_sort(&names->versions);
	gc_set_sort(&names->docs);
	names->ino = ino;
	return 0;
}

bool gc_names_version(const struct gc_names *names, const char *version)
{
	return names->all || gc_set_has(&names->versions, gc_version_hash(version));
}

bool gc_names_doc(const struct gc_names *names, uint64_t id)
{
	return names->all || gc_set_has(&names->docs, id);
}

/* --- shared objects --- */

/* Does one on the list name it? */
static int ask_all(struct volume *v, struct op_ctx *op, const char *version, const struct cell_record *cell)
{
	struct gc_names names = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < shared_files(cell); i++) {
		r = gc_names_read(v, op, shared_file(cell, i), &names);
		if (r == 0)
			r = gc_names_version(&names, version);
	}
	gc_names_release(&names);
	return r;
}

int gc_shared(struct volume *v, struct op_ctx *op, const char *version, struct cell_record *ret)
{
	for (int tries = 0; tries < SHARED_TRIES; tries++) {
		struct cell_record again;
		uint64_t token;
		int r = shared_get(v->engine, op, version, ret);

		if (r < 0)
			return r == -ENOTSUP ? 0 : r;
		if (!ret->name)
			return 0;
		r = ask_all(v, op, version, ret);
		if (r == 0)
			r = shared_get(v->engine, op, version, &again);
		token = r == 0 ? again.token : 0;
		if (r == 0)
			cell_record_release(&again);
		if (r == 0 && token == ret->token)
			return 0;
		cell_record_release(ret);
		if (r != 0)
			return r;
	}
	return 1; /* shared all the time: somebody has it */
}

void gc_unshare(struct change *c, struct cell_record *cell)
{
	struct write *w;

	if (!cell->name)
		return;
	free(cell->blob.data);
	cell->blob = (struct node_blob){ 0 };
	w = change_write(c, WRITE_CELL_PUT, 0);
	w->cell = cell;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = cell->token;
}
