/*
 * What others change, as this mount hears of it from its engine (engine_watch()): cached attributes and content are marked,
 * the kernel is told to forget. While news come, and only then, cached answers are used (news_live()).
 *
 * Own changes are known already and cost nothing here. What is lost, or was silent for too long, may have changed
 * everything: all is asked for anew.
 */
#ifndef MASSFS_FS_NEWS_H
#define MASSFS_FS_NEWS_H

#include <stdbool.h>

#include "fs/fs.h"

struct newsroom;

#define NEWS_SILENCE_NS (500 * (int64_t)1000000) /* older than this, and what is cached is not believed */

/* Begin to listen. Before the kernel's first request, after the notifier. An engine without news: *ret is NULL. */
int news_start(struct massfs *fs, struct newsroom **ret) MFS_NODISCARD;
/* No news any more; before what they are told to goes. NULL: nothing. */
void news_stop(struct newsroom *n);

/* Is what is cached true (but for the last milliseconds)? NULL: yes, nobody else changes anything. */
bool news_live(const struct newsroom *n);
static inline bool massfs_live(const struct massfs *fs)
{
	return news_live(fs->news);
}

/* News of cells, of sessions, and NEWS_LOST, on the newsroom's thread (no lock held, must not wait long). Before
 * the kernel's first request. -ENOSPC: too many listeners. */
int news_listen(struct newsroom *n, void (*fn)(void *arg, const struct news *news), void *arg) MFS_NODISCARD;

/* For content_env.moved: the kernel's pages and size of the file are of what it looked like before. arg: the massfs. */
void news_content_moved(void *arg, mfs_ino_t ino);

/* Counts for massfs status. */
struct news_stats {
	bool live;
	int64_t silent_ns; /* since the last beat; -1: none came yet */
	uint64_t told, own, lost, silences;
};
void news_stats(struct newsroom *n, struct news_stats *ret);

#endif
