/*
 * Marks and floors. An open mark is OPEN plus its number in the order of marks, a closed one a time; so of two the one
 * that asks for more is the bigger number.
 */
#include "meta/redis_floors.h"

#include <errno.h>
#include <string.h>

#include "common/hash.h"

#define OPEN	 (UINT64_C(1) << 63)
#define POINT_US 10000 /* between two points: what marks of one such span get is the later one's time */

int floors_new(struct floors **ret)
{
	struct floors *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	pthread_mutex_init(&f->lock.m, NULL);
	f->line = 1;
	f->seq = 1;
	f->base = OPEN | 1;
	*ret = f;
	return 0;
}

void floors_free(struct floors *f)
{
	if (!f)
		return;
	pthread_mutex_destroy(&f->lock.m);
	free(f);
}

static uint64_t next_mark_locked(struct floors *f)
{
	return OPEN | (atomic_fetch_add(&f->seq, 1) + 1);
}

static struct floors_point *point(struct floors *f, size_t back)
{
	return &f->ring[(f->n_points - 1 - back) % FLOORS_RING];
}

/* The earliest time that is known to be after the mark; the mark itself while none is. */
static uint64_t resolve_locked(struct floors *f, const struct floors_view *view, uint64_t mark)
{
	size_t n = MFS_MIN(f->n_points, (size_t)FLOORS_RING);
	uint64_t seq = mark & ~OPEN, t = mark;

	if (!(mark & OPEN))
		return mark;
	for (size_t i = 0; i < n && point(f, i)->seq >= seq; i++)
		t = point(f, i)->t;
	if (view && view->seq >= seq && view->t < t)
		t = view->t;
	return t;
}

/* --- marks --- */

static struct floors_way *set_of(struct floors *f, uint64_t hash, uint64_t **ret_min)
{
	size_t i = hash % FLOORS_SETS;

	*ret_min = &f->set_min[i];
	return f->way[i];
}

static bool is_free(const struct floors_way *w)
{
	return w->plain == 0 && w->noted == 0;
}

static uint64_t asks(const struct floors_way *w)
{
	return MFS_MAX(w->plain, w->noted);
}

static struct floors_way *find_locked(struct floors *f, uint64_t hash, uint64_t **ret_min)
{
	struct floors_way *set = set_of(f, hash, ret_min);

	for (unsigned int i = 0; i < FLOORS_WAYS; i++)
		if (!is_free(&set[i]) && set[i].hash == hash)
			return &set[i];
	return NULL;
}

/* The place of hash, made if need be: the one that asks for least makes room, and the set remembers what it asked for. */
static struct floors_way *place_locked(struct floors *f, uint64_t hash)
{
	uint64_t *min;
	struct floors_way *set = set_of(f, hash, &min), *least = &set[0];

	for (unsigned int i = 0; i < FLOORS_WAYS; i++) {
		if (!is_free(&set[i]) && set[i].hash == hash)
			return &set[i];
		if (asks(&set[i]) < asks(least))
			least = &set[i];
	}
	*min = MFS_MAX(*min, asks(least));
	*least = (struct floors_way){ .hash = hash };
	return least;
}

void floors_mark(struct floors *f, uint64_t hash)
{
	MFS_GUARD(&f->lock);

	place_locked(f, hash)->plain = next_mark_locked(f);
}

void floors_mark_number(struct floors *f, uint64_t hash, enum floors_rule rule, uint64_t number)
{
	struct floors_way *w;
	MFS_GUARD(&f->lock);

	w = place_locked(f, hash);
	w->noted = next_mark_locked(f);
	w->number = rule == FLOORS_AT_LEAST ? MFS_MAX(w->number, number) : number;
}

void floors_mark_all(struct floors *f)
{
	MFS_GUARD(&f->lock);

	f->base = next_mark_locked(f);
}

void floors_new_clock(struct floors *f)
{
	MFS_GUARD(&f->lock);

	f->line++;
	f->base = next_mark_locked(f);
	f->n_points = 0;
	memset(f->set_min, 0, sizeof(f->set_min));
	memset(f->way, 0, sizeof(f->way)); /* base asks for more than any of them */
}

/* --- times --- */

void floors_begin(struct floors *f, struct floors_view *ret)
{
	/* line first: with a new clock come new marks, and a view must not have the new line with the marks of the old. */
	ret->line = atomic_load(&f->line);
	ret->seq = atomic_load(&f->seq);
	ret->t = 0;
}

void floors_seen(struct floors *f, const struct floors_view *view)
{
	MFS_GUARD(&f->lock);

	if (view->line != f->line || view->t == 0)
		return;
	if (f->n_points && (view->seq <= point(f, 0)->seq || view->t < point(f, 0)->t + POINT_US))
		return;
	f->n_points++;
	*point(f, 0) = (struct floors_point){ view->seq, view->t };
}

bool floors_open(struct floors *f)
{
	MFS_GUARD(&f->lock);

	return f->n_points == 0 || point(f, 0)->seq < f->seq;
}

void floors_settle(struct floors *f)
{
	MFS_GUARD(&f->lock);

	f->base = resolve_locked(f, NULL, f->base);
	for (unsigned int i = 0; i < FLOORS_SETS; i++) {
		f->set_min[i] = resolve_locked(f, NULL, f->set_min[i]);
		for (unsigned int k = 0; k < FLOORS_WAYS; k++) {
			f->way[i][k].plain = resolve_locked(f, NULL, f->way[i][k].plain);
			f->way[i][k].noted = resolve_locked(f, NULL, f->way[i][k].noted);
		}
	}
}

/* --- judging --- */

bool floors_judge_locked(struct floors *f, const struct floors_view *view, uint64_t hash, uint64_t stamp,
			 enum floors_rule rule, uint64_t number)
{
	struct floors_way *w;
	uint64_t *min;

	if (view->line != f->line || stamp > view->t)
		return false;
	w = find_locked(f, hash, &min);
	f->base = resolve_locked(f, view, f->base);
	*min = resolve_locked(f, view, *min);
	if (w) {
		w->plain = resolve_locked(f, view, w->plain);
		w->noted = resolve_locked(f, view, w->noted);
	}
	if (stamp < f->base || stamp < *min)
		return false;
	if (!w)
		return true;
	if (stamp < w->plain)
		return false;
	if (stamp >= w->noted)
		return true;
	return rule != FLOORS_STAMP && (rule == FLOORS_SAME ? number == w->number : number >= w->number);
}

bool floors_judge(struct floors *f, const struct floors_view *view, uint64_t hash, uint64_t stamp, enum floors_rule rule,
		  uint64_t number)
{
	MFS_GUARD(&f->lock);

	return floors_judge_locked(f, view, hash, stamp, rule, number);
}

/* --- things --- */

uint64_t floors_record(mfs_ino_t ino)
{
	return mfs_hash_u64(ino * 4 + 1);
}

uint64_t floors_pages(mfs_ino_t dir)
{
	return mfs_hash_u64(dir * 4 + 2);
}

uint64_t floors_name(mfs_ino_t parent, const struct mfs_name *name)
{
	return mfs_hash_u64(mfs_hash64(name->bytes, name->len) ^ mfs_hash_u64(parent * 4 + 3));
}

uint64_t floors_tag(uint64_t number)
{
	return mfs_hash_u64(number ^ UINT64_C(0x7461677361677461));
}

uint64_t floors_tags(void)
{
	return mfs_hash_u64(UINT64_C(0x616c6c2074616773));
}
