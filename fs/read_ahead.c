/* Reading ahead over a network (read_ahead.h). */
#include "fs/read_ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/workers.h"
#include "fs/content_internal.h"

/* The range GETs of one read go through env->fetchers, whose jobs wait for nobody; chunks through env->readers. */
#define WINDOW_MIN  READ_AHEAD_CHUNK
#define WINDOW_MAX  (16 * READ_AHEAD_CHUNK)
#define SHARE	    8 /* of the budget: one part in so many for all files' chunks */
#define DEADLINE_NS (60 * MFS_NSEC_PER_SEC)
#define LOOK_NS	    (100 * 1000000) /* how often one who waits looks whether he is cancelled */

struct chunk {
	struct content *c;
	struct state *state; /* whose bytes; a reference */
	uint64_t off;
	size_t len;
	unsigned int users; /* content.lock: its job, and who copies from it; with 0 it may go */
	bool done;	    /* content.lock */
	int r;
	unsigned char data[];
};

static bool in_memory(const struct content_env *env)
{
	return env->readers && !env->vol->cache;
}

/* ---- chunks ---- */

static void free_chunk_locked(struct content *c, size_t i)
{
	struct chunk *k = MFS_TAKE(c->ahead.chunks[i]);

	budget_put(c->env->budget, (size_t)READ_AHEAD_CHUNK);
	atomic_fetch_sub(&c->env->ahead_bytes, READ_AHEAD_CHUNK);
	state_put(k->state);
	free(k);
}

void read_ahead_drop_locked(struct content *c)
{
	for (size_t i = 0; i < READ_AHEAD_CHUNKS; i++)
		if (c->ahead.chunks[i] && c->ahead.chunks[i]->users == 0)
			free_chunk_locked(c, i);
	c->ahead.window = c->ahead.fetched = 0;
}

/* What is of an older state, or well behind the reader. The kernel's requests come in no order: not at once. */
static void sweep_locked(struct content *c)
{
	struct read_ahead *a = &c->ahead;

	for (size_t i = 0; i < READ_AHEAD_CHUNKS; i++) {
		struct chunk *k = a->chunks[i];

		if (k && k->users == 0 &&
		    (k->state != c->state || k->r < 0 || k->off + k->len + 2 * READ_AHEAD_CHUNK <= a->read_end))
			free_chunk_locked(c, i);
	}
}

static struct chunk *find_locked(struct content *c, const struct state *s, uint64_t off)
{
	for (size_t i = 0; i < READ_AHEAD_CHUNKS; i++) {
		struct chunk *k = c->ahead.chunks[i];

		if (k && k->state == s && off >= k->off && off < k->off + k->len)
			return k;
	}
	return NULL;
}

static void fetch(void *arg)
{
	struct chunk *k = arg;
	struct content *c = k->c;
	struct op_ctx op = { .deadline_ns = mfs_mono_ns() + DEADLINE_NS };
	int r = state_read(c->env, &op, c->ino, k->state, k->off, k->data, k->len);
	MFS_GUARD(&c->lock);

	k->r = r;
	k->done = true;
	k->users--;
	c->ahead.n_jobs--;
	pthread_cond_broadcast(&c->changed);
}

/* NULL: no room, no memory. */
static struct chunk *add_locked(struct content *c, uint64_t off, size_t len)
{
	struct content_env *env = c->env;
	struct chunk *k;
	size_t i = 0;

	while (i < READ_AHEAD_CHUNKS && c->ahead.chunks[i])
		i++;
	if (i == READ_AHEAD_CHUNKS ||
	    atomic_load(&env->ahead_bytes) + READ_AHEAD_CHUNK > budget_max(env->budget) / SHARE ||
	    !budget_try(env->budget, (size_t)READ_AHEAD_CHUNK))
		return NULL;
	k = malloc(sizeof(*k) + len);
	if (!k) {
		budget_put(env->budget, (size_t)READ_AHEAD_CHUNK);
		return NULL;
	}
	atomic_fetch_add(&env->ahead_bytes, READ_AHEAD_CHUNK);
	*k = (struct chunk){ .c = c, .state = state_ref(c->state), .off = off, .len = len, .users = 1 };
	c->ahead.chunks[i] = k;
	c->ahead.n_jobs++;
	return k;
}

/* [from, to), up to a multiple of a chunk each: up to where. Their jobs are still to be submitted. */
static uint64_t add_chunks_locked(struct content *c, uint64_t from, uint64_t to, struct chunk *ret[static READ_AHEAD_CHUNKS],
				  size_t *ret_n)
{
	uint64_t end = content_committed_locked(c);

	sweep_locked(c);
	while (from < to && *ret_n < READ_AHEAD_CHUNKS) {
		uint64_t stop = MFS_MIN(from - from % READ_AHEAD_CHUNK + READ_AHEAD_CHUNK, end);
		struct chunk *k = find_locked(c, c->state, from);

		if (!k) {
			k = add_locked(c, from, (size_t)(stop - from));
			if (!k)
				break;
			ret[(*ret_n)++] = k;
		}
		from = k->off + k->len;
	}
	return from;
}

static void submit(struct content *c, struct chunk *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (workers_try_submit(c->env->readers, fetch, v[i]) == 0)
			continue;
		MFS_GUARD(&c->lock);

		v[i]->r = -EBUSY;
		v[i]->done = true;
		v[i]->users--;
		c->ahead.n_jobs--;
		pthread_cond_broadcast(&c->changed);
	}
}

/* ---- the window ---- */

void read_ahead_note(struct content *c, uint64_t off, size_t len)
{
	struct chunk *chunks[READ_AHEAD_CHUNKS];
	struct read_ahead *a = &c->ahead;
	struct state *s = NULL;
	uint64_t from, to;
	size_t n = 0;

	if (!c->env->vol->cache && !in_memory(c->env))
		return;
	{
		MFS_GUARD(&c->lock);

		if (off > a->read_end + WINDOW_MIN || off + WINDOW_MIN < a->read_end ||
		    (in_memory(c->env) && a->read_end == 0)) {
			read_ahead_drop_locked(c);
			a->read_end = off + len;
			return;
		}
		a->read_end = MFS_MAX(a->read_end, off + len);
		if (a->fetched > a->read_end + a->window / 2)
			return; /* still well ahead */
		a->window = a->window ? MFS_MIN(a->window * 2, WINDOW_MAX) : WINDOW_MIN;
		from = MFS_MAX(a->read_end, a->fetched);
		to = MFS_MIN(a->read_end + a->window, content_committed_locked(c));
		if (from >= to) {
			sweep_locked(c);
			return;
		}
		if (in_memory(c->env)) {
			a->fetched = add_chunks_locked(c, from, to, chunks, &n);
		} else {
			a->fetched = to;
			s = state_ref(c->state);
		}
	}
	submit(c, chunks, n);
	if (s)
		state_prefetch(c->env, s, from, to - from);
	state_put(s);
}

/* ---- reading ---- */

/* Bytes of the chunk at off: how many; 0: there is none, or it came to nothing. -ECANCELED. */
static ssize_t from_chunk(struct content *c, struct op_ctx *op, const struct state *s, uint64_t off, void *buf, size_t len)
{
	struct chunk *k;
	ssize_t n = 0;

	{
		MFS_GUARD(&c->lock);

		k = find_locked(c, s, off);
		if (!k)
			return 0;
		k->users++;
		while (!k->done && !atomic_load(&op->cancelled)) {
			struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + LOOK_NS);

			pthread_cond_clockwait(&c->changed, &c->lock.m, CLOCK_MONOTONIC, &ts);
		}
		if (!k->done || k->r < 0) {
			n = k->done ? 0 : -ECANCELED;
			k->users--;
			return n;
		}
	}
	n = (ssize_t)MFS_MIN((uint64_t)len, k->off + k->len - off);
	memcpy(buf, k->data + (off - k->off), (size_t)n);
	MFS_GUARD(&c->lock);
	k->users--;
	return n;
}

/* Where the next chunk of s begins, at most `end`. */
static uint64_t next_chunk(struct content *c, const struct state *s, uint64_t off, uint64_t end)
{
	MFS_GUARD(&c->lock);

	for (size_t i = 0; i < READ_AHEAD_CHUNKS; i++) {
		const struct chunk *k = c->ahead.chunks[i];

		if (k && k->state == s && k->off > off && k->off < end && !(k->done && k->r < 0))
			end = k->off;
	}
	return end;
}

int read_ahead_read(struct content *c, struct op_ctx *op, struct state *s, uint64_t off, void *buf, size_t len)
{
	uint64_t end = off + len;
	char *to = buf;

	if (!in_memory(c->env))
		return state_read(c->env, op, c->ino, s, off, buf, len);
	while (off < end) {
		ssize_t n = from_chunk(c, op, s, off, to, (size_t)(end - off));

		if (n < 0)
			return (int)n;
		if (n == 0) {
			int r;

			n = (ssize_t)(next_chunk(c, s, off, end) - off);
			r = state_read(c->env, op, c->ino, s, off, to, (size_t)n);
			if (r < 0)
				return r;
		}
		off += (uint64_t)n;
		to += n;
	}
	return 0;
}

void read_ahead_end(struct content *c)
{
	MFS_GUARD(&c->lock);

	while (c->ahead.n_jobs)
		pthread_cond_wait(&c->changed, &c->lock.m);
	read_ahead_drop_locked(c);
}
