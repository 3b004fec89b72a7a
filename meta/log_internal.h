/* What log_engine.c (a change noted, the decorator), log_news.c (by news) and log_notes.c (the set of keys) share. */
#ifndef MASSFS_META_LOG_INTERNAL_H
#define MASSFS_META_LOG_INTERNAL_H

#include "common/sync.h"
#include "meta/log_engine.h"

/* Open addressing; a key with kind 0 and id 0 is a free place (RECORD_HEADER is never noted). */
struct log_key_set {
	struct record_key *v;
	size_t n, cap; /* cap is a power of two, or 0 */
	bool overflow;
	uint64_t changes;
	int64_t since;
};

bool log_key_is_free(const struct record_key *k);
void log_set_release(struct log_key_set *s);
void log_set_overflow(struct log_key_set *s);
/* k->key is copied. No memory is as good as too many. */
void log_set_add(struct log_key_set *s, const struct record_key *k);
void log_set_add_number(struct log_key_set *s, enum record_kind kind, uint64_t id, uint64_t more);
/* All that is in `from` too, with its changes; moved: it is empty then. */
void log_set_copy(struct log_key_set *into, const struct log_key_set *from);
void log_set_move(struct log_key_set *into, struct log_key_set *from);
/* The keys become the cut's. */
void log_set_give(struct log_key_set *s, struct log_cut *ret);

struct log_engine {
	struct engine base;
	struct engine_ops ops;
	struct engine *inner;
	struct mfs_mutex lock; /* nothing is called with it held */
	pthread_cond_t drained; /* under_way[x] == 0 */
	struct log_key_set notes;
	unsigned int generation;
	unsigned int under_way[2]; /* changes that noted in this generation and are not done */
	uint64_t dropped_from;
	/* By news, beside `notes`: */
	bool follows;
	struct log_key_set begun; /* noted before the cut that was begun last */
	bool has_begun;	      /* one was, since when all was noted */
	bool whole, lost;     /* see the header; something was lost since the beginning */
	engine_news_fn news_fn;
	void *news_arg;
	unsigned int news_calls; /* of news_fn, under way; `drained` when 0 */
	uint64_t wake_at;
	void (*wake)(void *arg);
	void *wake_arg;
};

static inline struct log_engine *log_of(struct engine *e)
{
	return mfs_container_of(e, struct log_engine, base);
}

/* log_news.c */
void log_news(void *arg, const struct news *n);
bool log_note_cell(struct log_key_set *s, const char *name); /* one that is logged? */
int log_cut_by_news(struct log_engine *l, struct op_ctx *op, struct log_cut *ret) MFS_NODISCARD;

#endif
