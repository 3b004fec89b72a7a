/*
 * The ordered map of the mem engine: a skip list with an undo log. What a put or remove displaces is kept as an item
 * in the log until commit frees it or rollback puts it back.
 */
#include "meta/mem_map.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define HEIGHT_MAX 16

struct mem_item {
	void *value;
	void (*free_value)(void *);
	uint8_t *key;
	size_t key_len;
	int height;
	struct mem_item *next[];
};

/* One step to take back: `item` was put in (linked) or taken out. */
struct undo {
	struct mem_item *item;
	bool put;
};

struct mem_map {
	struct mem_item *head; /* HEIGHT_MAX high, without a key */
	uint64_t random;
	struct undo *undo;
	size_t n_undo, cap_undo;
};

void mem_key_start(struct mem_key *k, char kind)
{
	k->bytes[0] = (uint8_t)kind;
	k->len = 1;
}

void mem_key_u64(struct mem_key *k, uint64_t v)
{
	assert(k->len + 8 <= sizeof(k->bytes));
	for (int shift = 56; shift >= 0; shift -= 8)
		k->bytes[k->len++] = (uint8_t)(v >> shift);
}

int mem_key_bytes(struct mem_key *k, const void *p, size_t len)
{
	/* 16 bytes stay free for numbers after it. */
	if (len > sizeof(k->bytes) - 16 - k->len)
		return -ENAMETOOLONG;
	memcpy(k->bytes + k->len, p, len);
	k->len += len;
	return 0;
}

static struct mem_item *item_new(const uint8_t *key, size_t len, int height)
{
	struct mem_item *i = calloc(1, sizeof(*i) + (size_t)height * sizeof(struct mem_item *));

	if (!i)
		return NULL;
	i->height = height;
	i->key_len = len;
	i->key = malloc(len + 1);
	if (!i->key) {
		free(i);
		return NULL;
	}
	memcpy(i->key, key, len);
	return i;
}

static void item_free(struct mem_item *i)
{
	if (i->free_value)
		i->free_value(i->value);
	free(i->key);
	free(i);
}

struct mem_map *mem_map_new(void)
{
	struct mem_map *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->random = UINT64_C(0x9e3779b97f4a7c15);
	m->head = item_new((const uint8_t *)"", 0, HEIGHT_MAX);
	if (!m->head) {
		free(m);
		return NULL;
	}
	return m;
}

void mem_map_free(struct mem_map *m)
{
	struct mem_item *next;

	if (!m)
		return;
	mem_map_commit(m);
	for (struct mem_item *i = m->head; i; i = next) {
		next = i->next[0];
		item_free(i);
	}
	free(m->undo);
	free(m);
}

static int key_compare(const struct mem_item *i, const uint8_t *key, size_t len)
{
	int c = memcmp(i->key, key, MFS_MIN(i->key_len, len));

	return c ? c : (i->key_len > len) - (i->key_len < len);
}

/* before[h] becomes the last item of level h with a key below this one. */
static void find(const struct mem_map *m, const uint8_t *key, size_t len, struct mem_item *before[HEIGHT_MAX])
{
	struct mem_item *i = m->head;

	for (int h = HEIGHT_MAX - 1; h >= 0; h--) {
		while (i->next[h] && key_compare(i->next[h], key, len) < 0)
			i = i->next[h];
		before[h] = i;
	}
}

static int random_height(struct mem_map *m)
{
	int h = 1;

	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	for (uint64_t bits = m->random; h < HEIGHT_MAX && (bits & 3) == 0; bits >>= 2)
		h++;
	return h;
}

static struct mem_item *find_equal(const struct mem_map *m, const uint8_t *key, size_t len,
				   struct mem_item *before[HEIGHT_MAX])
{
	struct mem_item *i;

	find(m, key, len, before);
	i = before[0]->next[0];
	return i && key_compare(i, key, len) == 0 ? i : NULL;
}

static void link_item(struct mem_item *i, struct mem_item *before[HEIGHT_MAX])
{
	for (int h = 0; h < i->height; h++) {
		i->next[h] = before[h]->next[h];
		before[h]->next[h] = i;
	}
}

static void unlink_item(struct mem_item *i, struct mem_item *before[HEIGHT_MAX])
{
	for (int h = 0; h < i->height; h++)
		before[h]->next[h] = i->next[h];
}

const struct mem_item *mem_map_seek(const struct mem_map *m, const struct mem_key *k)
{
	struct mem_item *before[HEIGHT_MAX];

	find(m, k->bytes, k->len, before);
	return before[0]->next[0];
}

const struct mem_item *mem_item_next(const struct mem_item *i)
{
	return i->next[0];
}

bool mem_item_has_prefix(const struct mem_item *i, const struct mem_key *prefix)
{
	return i && i->key_len >= prefix->len && memcmp(i->key, prefix->bytes, prefix->len) == 0;
}

uint64_t mem_item_u64(const struct mem_item *i, size_t off)
{
	uint64_t v = 0;

	assert(off + 8 <= i->key_len);
	for (int n = 0; n < 8; n++)
		v = v << 8 | i->key[off + n];
	return v;
}

size_t mem_item_key_len(const struct mem_item *i)
{
	return i->key_len;
}

void mem_item_key(const struct mem_item *i, struct mem_key *ret)
{
	ret->len = i->key_len;
	memcpy(ret->bytes, i->key, i->key_len);
}

const void *mem_item_value(const struct mem_item *i)
{
	return i->value;
}

const void *mem_map_get(const struct mem_map *m, const struct mem_key *k, bool *ret_found)
{
	struct mem_item *before[HEIGHT_MAX];
	const struct mem_item *i = find_equal(m, k->bytes, k->len, before);

	if (ret_found)
		*ret_found = i;
	return i ? i->value : NULL;
}

/* Room for two more steps, so that recording one cannot fail half-way. */
static int undo_reserve(struct mem_map *m)
{
	size_t cap = m->cap_undo ? m->cap_undo * 2 : 32;
	struct undo *v;

	if (m->n_undo + 2 <= m->cap_undo)
		return 0;
	v = reallocarray(m->undo, cap, sizeof(*v));
	if (!v)
		return -ENOMEM;
	m->undo = v;
	m->cap_undo = cap;
	return 0;
}

static void undo_add(struct mem_map *m, struct mem_item *i, bool put)
{
	m->undo[m->n_undo++] = (struct undo){ i, put };
}

int mem_map_put(struct mem_map *m, const struct mem_key *k, void *value, void (*free_value)(void *))
{
	struct mem_item *before[HEIGHT_MAX], *old;
	struct mem_item *i = item_new(k->bytes, k->len, random_height(m));
	int r = i ? undo_reserve(m) : -ENOMEM;

	if (r < 0) {
		if (i)
			item_free(i);
		return r;
	}
	old = find_equal(m, k->bytes, k->len, before);
	if (old) {
		unlink_item(old, before);
		undo_add(m, old, false);
	}
	i->value = value;
	i->free_value = free_value;
	link_item(i, before);
	undo_add(m, i, true);
	return 0;
}

int mem_map_remove(struct mem_map *m, const struct mem_key *k)
{
	struct mem_item *before[HEIGHT_MAX], *i;
	int r = undo_reserve(m);

	if (r < 0)
		return r;
	i = find_equal(m, k->bytes, k->len, before);
	if (!i)
		return -ENOENT;
	unlink_item(i, before);
	undo_add(m, i, false);
	return 0;
}

void mem_map_commit(struct mem_map *m)
{
	for (size_t n = 0; n < m->n_undo; n++)
		if (!m->undo[n].put)
			item_free(m->undo[n].item);
	m->n_undo = 0;
}

void mem_map_rollback(struct mem_map *m)
{
	struct mem_item *before[HEIGHT_MAX];

	while (m->n_undo) {
		struct undo u = m->undo[--m->n_undo];

		find(m, u.item->key, u.item->key_len, before);
		if (u.put) {
			unlink_item(u.item, before);
			item_free(u.item);
		} else {
			link_item(u.item, before);
		}
	}
}
