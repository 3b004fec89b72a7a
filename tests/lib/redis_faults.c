/*
 * Damage to a Redis' contents.
 */
#include "tests/lib/redis_faults.h"

#include <stdio.h>
#include <string.h>

#include "common/defs.h"

static char *copy_bytes(const char *s, size_t len)
{
	char *p = malloc(len + 1);

	if (!p)
		abort();
	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

void redis_copy_release(struct redis_copy *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].name);
		free(c->v[i].value);
	}
	free(c->v);
	*c = (struct redis_copy){ 0 };
}

static void add_key(redisContext *c, const redisReply *name, struct redis_copy *ret)
{
	redisReply *r = redisCommand(c, "DUMP %b", name->str, name->len);

	if (r && r->type == REDIS_REPLY_STRING)
		ret->v[ret->n++] = (struct redis_copy_key){ copy_bytes(name->str, name->len), copy_bytes(r->str, r->len),
							    name->len, r->len };
	freeReplyObject(r);
}

void redis_copy_take(redisContext *c, struct redis_copy *ret)
{
	redisReply *r = redisCommand(c, "KEYS massfs:*");

	*ret = (struct redis_copy){ 0 };
	if (r && r->type == REDIS_REPLY_ARRAY) {
		ret->v = calloc(r->elements + 1, sizeof(*ret->v));
		if (!ret->v)
			abort();
		for (size_t i = 0; i < r->elements; i++)
			add_key(c, r->element[i], ret);
	}
	freeReplyObject(r);
}

static size_t put(redisContext *c, const struct redis_copy_key *key, const struct redis_copy_key *value)
{
	redisReply *r = redisCommand(c, "RESTORE %b 60000 %b REPLACE", key->name, key->name_len, value->value, value->value_len);
	bool ok = r && r->type == REDIS_REPLY_STATUS;

	freeReplyObject(r);
	return ok;
}

size_t redis_fault_restore(redisContext *c, const struct redis_copy *from)
{
	size_t n = 0;

	for (size_t i = 0; i < from->n; i++)
		n += put(c, &from->v[i], &from->v[i]);
	return n;
}

/* The letter behind the prefix: r, n or d. */
static char kind_of(const struct redis_copy_key *k)
{
	const char *p = k->name;

	for (unsigned int colons = 0; *p && colons < 5; p++)
		colons += *p == ':';
	return *p;
}

size_t redis_fault_swap(redisContext *c, unsigned int *seed)
{
	struct redis_copy all;
	size_t n = 0;

	redis_copy_take(c, &all);
	for (size_t i = 0; i < all.n; i++) {
		size_t k = (size_t)rand_r(seed) % all.n;

		if (kind_of(&all.v[i]) == kind_of(&all.v[k]))
			n += put(c, &all.v[i], &all.v[k]);
	}
	redis_copy_release(&all);
	return n;
}

static void spoil(char *s, size_t *len, unsigned int *seed)
{
	switch (rand_r(seed) % 4) {
	case 0:
		for (size_t i = 0; i < *len; i++)
			s[i] = (char)rand_r(seed);
		break;
	case 1:
		*len = *len ? (size_t)rand_r(seed) % *len : 0;
		break;
	case 2: /* behind a head that is right */
		for (size_t i = 33; i < *len; i++)
			s[i] = (char)rand_r(seed);
		break;
	default:
		if (*len)
			s[(size_t)rand_r(seed) % *len] ^= (char)(1 << rand_r(seed) % 8);
	}
}

static size_t spoil_hash(redisContext *c, const redisReply *key, unsigned int *seed)
{
	redisReply *all = redisCommand(c, "HGETALL %b", key->str, key->len);
	size_t n = 0;

	for (size_t i = 0; all && all->type == REDIS_REPLY_ARRAY && i + 1 < all->elements; i += 2) {
		size_t len = all->element[i + 1]->len;
		redisReply *r;

		spoil(all->element[i + 1]->str, &len, seed);
		r = redisCommand(c, "HSET %b %b %b", key->str, key->len, all->element[i]->str, all->element[i]->len,
				 all->element[i + 1]->str, len);
		n += r && r->type == REDIS_REPLY_INTEGER;
		freeReplyObject(r);
	}
	freeReplyObject(all);
	return n;
}

static size_t spoil_key(redisContext *c, const redisReply *key, unsigned int *seed)
{
	redisReply *v = redisCommand(c, "GET %b", key->str, key->len), *r;
	size_t n = 0, len;

	if (v && v->type == REDIS_REPLY_ERROR)
		n = spoil_hash(c, key, seed);
	if (v && v->type == REDIS_REPLY_STRING) {
		len = v->len;
		spoil(v->str, &len, seed);
		r = redisCommand(c, "SET %b %b EX 60", key->str, key->len, v->str, len);
		n = r && r->type == REDIS_REPLY_STATUS;
		freeReplyObject(r);
	}
	freeReplyObject(v);
	return n;
}

size_t redis_fault_garbage(redisContext *c, unsigned int *seed)
{
	redisReply *keys = redisCommand(c, "KEYS massfs:*");
	size_t n = 0;

	for (size_t i = 0; keys && keys->type == REDIS_REPLY_ARRAY && i < keys->elements; i++)
		n += spoil_key(c, keys->element[i], seed);
	freeReplyObject(keys);
	return n;
}

size_t redis_fault_types(redisContext *c)
{
	redisReply *keys = redisCommand(c, "KEYS massfs:*");
	size_t n = 0;

	for (size_t i = 0; keys && keys->type == REDIS_REPLY_ARRAY && i < keys->elements; i++) {
		freeReplyObject(redisCommand(c, "DEL %b", keys->element[i]->str, keys->element[i]->len));
		freeReplyObject(redisCommand(c, "RPUSH %b a b", keys->element[i]->str, keys->element[i]->len));
		n++;
	}
	freeReplyObject(keys);
	return n;
}

size_t redis_fault_flush(redisContext *c)
{
	redisReply *r = redisCommand(c, "FLUSHALL");
	bool ok = r && r->type == REDIS_REPLY_STATUS;

	freeReplyObject(r);
	return ok;
}
