/*
 * The index from its log. Newest first: of each record the youngest object that speaks of it counts, and is put once, so
 * what goes into the index is one moment's state and no name can be there twice.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/hash.h"
#include "common/log.h"
#include "fs/rebuild_internal.h"

/* The snapshot, and the changes after it without a gap. */
struct chain {
	const struct log_object *snapshot;
	uint64_t last; /* number of the last changes object; the snapshot's when there is none */
};

static void bad_object(struct rebuild *b, const struct log_object *o, const char *why)
{
	char key[LOG_KEY_MAX];

	log_object_key(o, key);
	b->res->damaged++;
	rebuild_found(b, why, key);
}

/* The changes behind the snapshot, as far as they are whole and each fits the one before. */
static int follow(struct rebuild *b, const struct log_objects *all, const struct log_object *snapshot,
		  struct chain *ret, struct record_state *end)
{
	const struct record_state of_snapshot = *end;
	struct log_facts before = { 0 }, facts;
	uint64_t n = snapshot->number + 1;
	const struct log_object *o;

	ret->snapshot = snapshot;
	ret->last = snapshot->number;
	for (; (o = log_objects_find(all, snapshot->epoch, false, n)); n++) {
		int r = log_object_verify(b->s->store, b->op, o, &facts);

		if (r == -ENOMEM || r == -ECANCELED)
			return r;
		if (r < 0 || (n > snapshot->number + 1 && facts.header.previous != before.sum)) {
			bad_object(b, o, r < 0 ? "damaged log" : "log that does not fit");
			break;
		}
		/* Of another writer than that whose changes made the snapshot whole. */
		if (n == of_snapshot.until && of_snapshot.until_sum && facts.sum != of_snapshot.until_sum) {
			bad_object(b, o, "log that does not fit");
			break;
		}
		before = facts;
		ret->last = n;
		*end = facts.state;
	}
	/* What lies behind a gap cannot be used. */
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].epoch == snapshot->epoch && !all->v[i].is_snapshot &&
		    all->v[i].number > MFS_MAX(n, ret->last + 1))
			bad_object(b, &all->v[i], "log behind a gap");
	return 0;
}

/* 1: the newest snapshot that is whole with its changes; 0: there is none. */
static int choose(struct rebuild *b, const struct log_objects *all, struct chain *ret,
		  struct record_state *end)
{
	for (size_t i = all->n; i-- > 0;) {
		const struct log_object *o = &all->v[i];
		struct log_facts facts;
		int r;

		if (!o->is_snapshot)
			continue;
		r = log_object_verify(b->s->store, b->op, o, &facts);
		if (r == -ENOMEM || r == -ECANCELED)
			return r;
		if (r < 0) {
			bad_object(b, o, "damaged log");
			continue;
		}
		*end = facts.state;
		r = follow(b, all, o, ret, end);
		if (r < 0)
			return r;
		if (ret->last >= facts.state.until)
			return 1;
		bad_object(b, o, "log snapshot whose changes are missing");
	}
	return 0;
}

/* --- loading --- */

struct loading {
	struct rebuild *b;
	struct record_loader *loader;
	struct gc_set seen, fresh; /* of older objects' records; of this object's, not yet sorted */
	bool aliases; /* the second pass: they come behind their files */
	bool only_volume;
};

static uint64_t key_hash(enum record_kind kind, uint64_t id, uint64_t more, const char *key)
{
	uint64_t h =
		mfs_hash_u64(id) * 31 + mfs_hash_u64(more + UINT64_C(0x9e3779b97f4a7c15)) + (uint64_t)kind;

	return mfs_hash_u64(key ? h ^ mfs_hash64(key, strlen(key)) : h);
}

static uint64_t hash_of_record(const struct record *r)
{
	switch (r->kind) {
	case RECORD_NODE:
		return key_hash(r->kind, r->node.attr.ino, 0, NULL);
	case RECORD_ALIAS:
		return key_hash(r->kind, r->alias.id, 0, NULL);
	case RECORD_VERSION:
		return key_hash(r->kind, r->version.ino, r->version.data, NULL);
	case RECORD_SLICES:
		return key_hash(r->kind, r->slices.ino, r->slices.id, NULL);
	case RECORD_DROPPED:
		return key_hash(r->kind, r->dropped.id, 0, NULL);
	case RECORD_JOB:
		return key_hash(r->kind, (uint64_t)r->job.kind, r->job.ino, r->job.key);
	case RECORD_SESSION:
		return key_hash(r->kind, r->session.id, 0, NULL);
	case RECORD_CELL:
		return key_hash(r->kind, 0, 0, r->cell.name);
	default:
		return key_hash(r->gone.kind, r->gone.id, r->gone.more, r->gone.key);
	}
}

static bool is_wanted(const struct loading *l, const struct record *r)
{
	enum record_kind kind = r->kind == RECORD_GONE ? r->gone.kind : r->kind;

	return (kind == RECORD_ALIAS) == l->aliases;
}

static int take(struct loading *l, struct record *r)
{
	uint64_t h;
	int err;

	if (r->kind == RECORD_VOLUME)
		return l->only_volume ? record_loader_add(l->loader, r) : 0;
	if (r->kind == RECORD_STATE || !is_wanted(l, r))
		return 0;
	h = hash_of_record(r);
	if (gc_set_has(&l->seen, h))
		return 0;
	err = gc_set_add(&l->fresh, h);
	if (err < 0 || r->kind == RECORD_GONE)
		return err;
	return record_loader_add(l->loader, r);
}

static uint32_t kinds_of(const struct loading *l)
{
	if (l->only_volume)
		return RECORD_MASK(RECORD_VOLUME);
	if (l->aliases)
		return RECORD_MASK(RECORD_ALIAS) | RECORD_MASK(RECORD_GONE);
	return RECORD_ALL & ~RECORD_MASK(RECORD_ALIAS);
}

static int load_object(struct loading *l, const struct log_object *o)
{
	struct log_input in;
	struct record rec;
	int r = log_input_open(&in, l->b->s->store, l->b->op, o);

	if (r < 0)
		return r;
	in.reader.only = kinds_of(l);
	while ((r = record_reader_next(&in.reader, &rec)) > 0) {
		r = take(l, &rec);
		record_release(&rec);
		if (r < 0)
			break;
		if (in.reader.line % 4096 == 0)
			rebuild_progress(l->b, "records", in.reader.line);
	}
	if (r < 0 && in.reader.reason)
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, l->b->op, "rebuild: %s: %s", in.ref.key, in.reader.reason);
	log_input_close(&in);
	/* An object has each record once, so its own need to be known only to the older ones. */
	for (size_t i = 0; r == 0 && i < l->fresh.n; i++)
		r = gc_set_add(&l->seen, l->fresh.v[i]);
	gc_set_sort(&l->seen);
	l->fresh.n = 0;
	return r;
}

static int load_pass(struct loading *l, const struct log_objects *all, const struct chain *c)
{
	int r = 0;

	l->seen.n = 0;
	for (uint64_t n = c->last; r == 0 && n > c->snapshot->number; n--)
		r = load_object(l, log_objects_find(all, c->snapshot->epoch, false, n));
	return r < 0 ? r : load_object(l, c->snapshot);
}

static int load_chain(struct rebuild *b, const struct log_objects *all, const struct chain *c)
{
	struct record_loader loader;
	struct loading l = { .b = b, .loader = &loader, .only_volume = true };
	int r;

	record_loader_init(&loader, b->s->engine, b->op);
	r = load_object(&l, c->snapshot);
	l.only_volume = false;
	if (r == 0)
		r = load_pass(&l, all, c);
	l.aliases = true;
	if (r == 0)
		r = load_pass(&l, all, c);
	loader.next_ino = MFS_MAX(loader.next_ino, b->end.next_ino);
	if (r == 0)
		r = record_loader_finish(&loader);
	b->res->log = loader.counts;
	record_loader_release(&loader);
	gc_set_release(&l.seen);
	gc_set_release(&l.fresh);
	return r;
}

static int make_empty(struct rebuild *b)
{
	struct volume_record v = { .schema = MFS_SCHEMA, .created = b->now };

	/* Of an index that can be read, or one made up: nothing but people compare it. */
	memcpy(v.uuid, b->s->old_record.uuid, sizeof(v.uuid));
	if (!v.uuid[0])
		snprintf(v.uuid, sizeof(v.uuid), "00000000-0000-4000-8000-%012" PRIx64,
			 mfs_hash_u64((uint64_t)b->now) & UINT64_C(0xffffffffffff));
	return engine_volume_put(b->s->engine, b->op, &v);
}

int rebuild_from_log(struct rebuild *b, char **ret_reason)
{
	struct chain c = { 0 };
	struct log_objects all;
	int r = log_objects_list(b->s->store, b->op, &all);

	if (r < 0)
		return mfs_fail(ret_reason, r, "the index log cannot be listed: %s", strerror(-r));
	r = choose(b, &all, &c, &b->end);
	if (r == 1) {
		b->res->has_log = true;
		b->res->epoch = c.snapshot->epoch;
		b->res->snapshot = c.snapshot->number;
		b->res->number = c.last;
		b->res->complete = b->end.complete;
		/* Of a chain that was broken off the end is known only by what comes after. */
		b->res->clean = b->end.clean && c.snapshot->epoch == all.v[all.n - 1].epoch;
		r = load_chain(b, &all, &c);
		if (r < 0)
			(void)mfs_fail(ret_reason, r, "the index log cannot be read back: %s", strerror(-r));
	} else if (r == 0) {
		b->end = (struct record_state){ 0 };
		r = make_empty(b);
		if (r < 0)
			(void)mfs_fail(ret_reason, r, "a new index cannot be made: %s", strerror(-r));
	}
	log_objects_release(&all);
	return r;
}
