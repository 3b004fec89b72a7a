/*
 * The set of keys that were noted: each once, bounded.
 */
#include <errno.h>
#include <string.h>

#include "common/hash.h"
#include "meta/log_internal.h"

static uint64_t hash_of(const struct record_key *k)
{
	uint64_t h = mfs_hash_u64(k->id * 31 + (uint64_t)k->kind) ^ mfs_hash_u64(k->more + 1);

	return k->key ? h ^ mfs_hash64(k->key, strlen(k->key)) : h;
}

bool log_key_is_free(const struct record_key *k)
{
	return k->kind == RECORD_HEADER;
}

static bool same_key(const struct record_key *a, const struct record_key *b)
{
	return a->kind == b->kind && a->id == b->id && a->more == b->more &&
	       (a->key ? b->key && strcmp(a->key, b->key) == 0 : !b->key);
}

static struct record_key *place_of(struct record_key *v, size_t cap, const struct record_key *k)
{
	size_t i = hash_of(k) & (cap - 1);

	while (!log_key_is_free(&v[i]) && !same_key(&v[i], k))
		i = (i + 1) & (cap - 1);
	return &v[i];
}

void log_set_release(struct log_key_set *s)
{
	for (size_t i = 0; i < s->cap; i++)
		free(s->v[i].key);
	free(s->v);
	s->v = NULL;
	s->n = s->cap = 0;
}

void log_set_overflow(struct log_key_set *s)
{
	log_set_release(s);
	s->overflow = true;
}

static int log_set_grow(struct log_key_set *s)
{
	size_t cap = s->cap ? s->cap * 2 : 1024;
	struct record_key *v = calloc(cap, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (!log_key_is_free(&s->v[i]))
			*place_of(v, cap, &s->v[i]) = s->v[i];
	free(s->v);
	s->v = v;
	s->cap = cap;
	return 0;
}

/* k->key is copied. No memory is as good as too many. */
void log_set_add(struct log_key_set *s, const struct record_key *k)
{
	struct record_key *at;

	if (s->overflow)
		return;
	if (s->n == LOG_ENGINE_MAX || ((s->n + 1) * 4 > s->cap * 3 && log_set_grow(s) < 0)) {
		log_set_overflow(s);
		return;
	}
	at = place_of(s->v, s->cap, k);
	if (!log_key_is_free(at))
		return;
	*at = *k;
	if (k->key) {
		at->key = strdup(k->key);
		if (!at->key) {
			*at = (struct record_key){ 0 };
			log_set_overflow(s);
			return;
		}
	}
	s->n++;
}

void log_set_add_number(struct log_key_set *s, enum record_kind kind, uint64_t id, uint64_t more)
{
	struct record_key k = { .kind = kind, .id = id, .more = more };

	log_set_add(s, &k);
}

void log_set_move(struct log_key_set *into, struct log_key_set *from)
{
	for (size_t i = 0; i < from->cap; i++)
		if (!log_key_is_free(&from->v[i]))
			log_set_add(into, &from->v[i]);
	into->changes += from->changes;
	if (from->since && (into->since == 0 || from->since < into->since))
		into->since = from->since;
	if (from->overflow)
		log_set_overflow(into);
	log_set_release(from);
	*from = (struct log_key_set){ 0 };
}

void log_set_copy(struct log_key_set *into, const struct log_key_set *from)
{
	for (size_t i = 0; i < from->cap; i++)
		if (!log_key_is_free(&from->v[i]))
			log_set_add(into, &from->v[i]);
	into->changes += from->changes;
	if (from->since && (into->since == 0 || from->since < into->since))
		into->since = from->since;
}

void log_set_give(struct log_key_set *s, struct log_cut *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < s->cap; i++)
		if (!log_key_is_free(&s->v[i]))
			s->v[n++] = s->v[i];
	ret->keys = s->v;
	ret->n = n;
	ret->changes = s->changes;
	ret->since = s->since;
	ret->overflow = s->overflow;
}
