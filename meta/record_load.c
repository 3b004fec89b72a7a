/*
 * Records into an index that is still empty, as they are: many in a change, in the order they come.
 */
#include <errno.h>
#include <string.h>

#include "meta/record_dump.h"

#define RESERVE_MAX (1u << 30)

void record_loader_init(struct record_loader *l, struct engine *e, struct op_ctx *op)
{
	*l = (struct record_loader){ .e = e, .op = op, .next_ino = MFS_FIRST_INO };
}

void record_loader_release(struct record_loader *l)
{
	for (size_t i = 0; i < l->n; i++)
		record_release(&l->batch[i]);
	l->n = 0;
}

static struct write *insert_of(struct change *c, const struct record *r)
{
	struct write *w;

	switch (r->kind) {
	case RECORD_NODE:
		w = change_write(c, WRITE_INSERT, r->node.attr.ino);
		w->node = &r->node;
		return w;
	case RECORD_VERSION:
		w = change_write(c, WRITE_VERSION_PUT, 0);
		w->version = &r->version;
		return w;
	case RECORD_SLICES:
		w = change_write(c, WRITE_SLICES_PUT, 0);
		w->slices = &r->slices;
		return w;
	case RECORD_DROPPED:
		w = change_write(c, WRITE_DROPPED_PUT, 0);
		w->dropped = &r->dropped;
		return w;
	case RECORD_JOB:
		w = change_write(c, WRITE_JOB_PUT, 0);
		w->job = &r->job;
		return w;
	case RECORD_SESSION:
		w = change_write(c, WRITE_SESSION_PUT, 0);
		w->session = &r->session;
		return w;
	case RECORD_CELL:
		w = change_write(c, WRITE_CELL_PUT, 0);
		w->cell = &r->cell;
		return w;
	default:
		return NULL;
	}
}

static int flush(struct record_loader *l)
{
	struct change c = { 0 };
	int r;

	if (l->n == 0)
		return 0;
	for (size_t i = 0; i < l->n; i++)
		(void)insert_of(&c, &l->batch[i]);
	r = engine_apply(l->e, l->op, &c);
	record_loader_release(l);
	return r;
}

/* Rule M1: with a write of the file, which changes nothing in it. */
static int add_alias(struct record_loader *l, const struct alias *a)
{
	struct change c = { 0 };
	int r = flush(l);

	change_write(&c, WRITE_EDIT, a->target)->mask = EDIT_NO_BUMP_VER;
	change_write(&c, WRITE_ALIAS_INSERT, a->id)->alias = a;
	return r < 0 ? r : engine_apply(l->e, l->op, &c);
}

/* It is there since the index was formatted. (Not in the change that inserts it: not every engine takes both in one.) */
static int remove_root(struct record_loader *l)
{
	struct change c = { 0 };

	change_write(&c, WRITE_DELETE, MFS_ROOT_INO);
	return engine_apply(l->e, l->op, &c);
}

static int add_volume(struct record_loader *l, const struct record_volume *v)
{
	struct volume_record put = v->v;
	int r;

	if (l->has_volume)
		return -EEXIST;
	put.schema = MFS_SCHEMA;
	r = engine_volume_put(l->e, l->op, &put);
	l->has_volume = r == 0;
	l->volume = *v;
	l->next_ino = MFS_MAX(l->next_ino, v->next_ino);
	return r;
}

static uint64_t highest_number(const struct record *r)
{
	switch (r->kind) {
	case RECORD_NODE:
		return MFS_MAX(r->node.attr.ino, r->node.pos);
	case RECORD_ALIAS:
		return r->alias.id;
	case RECORD_VERSION:
		return r->version.ino;
	case RECORD_SLICES:
		return MFS_MAX(r->slices.id, r->slices.ino);
	case RECORD_DROPPED:
		return r->dropped.id;
	case RECORD_SESSION:
		return r->session.id;
	default:
		return 0;
	}
}

static int add(struct record_loader *l, struct record *r)
{
	if (r->kind == RECORD_VOLUME)
		return add_volume(l, &r->volume);
	if (!l->has_volume)
		return -EINVAL;
	if (r->kind == RECORD_ALIAS)
		return add_alias(l, &r->alias);
	if (r->kind == RECORD_NODE && r->node.attr.ino == MFS_ROOT_INO) {
		int err = l->has_root ? -EEXIST : remove_root(l);

		if (err < 0)
			return err;
		l->has_root = attr_is_dir(&r->node.attr) && r->node.parent == 0;
	}
	l->batch[l->n++] = *r;
	r->kind = RECORD_END; /* it owns nothing any more */
	return l->n == RECORD_LOAD_BATCH ? flush(l) : 0;
}

int record_loader_add(struct record_loader *l, struct record *r)
{
	bool trash = r->kind == RECORD_NODE && (r->node.attr.flags & ATTR_IN_TRASH);
	enum record_kind kind = r->kind;
	uint64_t number = highest_number(r);
	int err;

	if (kind != RECORD_VOLUME && kind != RECORD_ALIAS && (kind < RECORD_NODE || kind > RECORD_CELL)) {
		record_release(r);
		return -EINVAL;
	}
	err = number >= INT64_MAX ? -EINVAL : add(l, r);
	record_release(r);
	if (err < 0)
		return err;
	l->next_ino = MFS_MAX(l->next_ino, number + 1);
	if (trash)
		l->counts.trash++;
	else
		l->counts.n[kind]++;
	return 0;
}

int record_loader_finish(struct record_loader *l)
{
	uint64_t next = 0, first;
	int r = flush(l);

	if (r == 0 && (!l->has_volume || !l->has_root))
		r = -EINVAL;
	if (r == 0)
		r = engine_next_number(l->e, l->op, &next);
	while (r == 0 && next < l->next_ino) {
		unsigned int count = (unsigned int)MFS_MIN(l->next_ino - next, (uint64_t)RESERVE_MAX);

		r = engine_reserve(l->e, l->op, count, &first);
		next += count;
	}
	return r < 0 ? r : engine_sync(l->e, l->op);
}
