/*
 * What the two halves of the watch share: mongo_watch.c reads the stream, mongo_news.c makes news of its events. Private.
 */
#ifndef MASSFS_META_MONGO_WATCH_INTERNAL_H
#define MASSFS_META_MONGO_WATCH_INTERNAL_H

#include "meta/mongo_internal.h"

#define MONGO_BEATS "beats"

/* mongo_news.c: tell all events of a reply's batch ("cursor.firstBatch", "cursor.nextBatch"). On the reader's thread. */
void mongo_watch_batch(struct mongo_engine *m, const bson_t *reply, const char *field);

/* mongo_watch.c */
void mongo_watch_tell(struct mongo_engine *m, const struct news *n);
void mongo_watch_event_token(struct mongo_engine *m, const bson_t *event); /* all up to this one was told */
void mongo_watch_beat(struct mongo_engine *m, uint64_t id, uint64_t n);	   /* a heartbeat has come */

#endif
