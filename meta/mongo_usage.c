/*
 * Sums for statfs: what each session's changes added to `files`, in number and in bytes, in a document of its own, so that
 * nobody waits for another and asking costs a few documents. Told at most once a second, by a thread; a crash loses what was
 * not told yet, which fsck repairs.
 */
#include <errno.h>

#include "common/clock.h"
#include "common/log.h"
#include "meta/mongo_internal.h"

#define TELL_NS MFS_NSEC_PER_SEC

struct mongo_usage {
	struct mongo_engine *m;
	struct mfs_mutex lock;
	pthread_cond_t changed; /* stop, or something to tell */
	pthread_t thread;
	bool running, stop;
	int64_t files, bytes; /* not told yet */
};

static int tell(struct mongo_engine *m, int64_t files, int64_t bytes)
{
	MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;
	bson_t *cmd, reply;
	int r = mongo_conn_get(m, NULL, &c);

	if (r < 0)
		return r;
	cmd = BCON_NEW("update", MONGO_USAGE, "updates", "[", "{", "q", "{", "_id", BCON_INT64((int64_t)m->base.session), "}", "u",
		       "{", "$inc", "{", "files", BCON_INT64(files), "bytes", BCON_INT64(bytes), "}", "}", "upsert",
		       BCON_BOOL(true), "}", "]");
	r = mongo_run(c, MONGO_WRITE, cmd, &reply);
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

/* Lock is held; it is let go meanwhile. */
static void tell_all(struct mongo_usage *u)
{
	int64_t files = u->files, bytes = u->bytes;
	int r;

	u->files = u->bytes = 0;
	pthread_mutex_unlock(&u->lock.m);
	r = tell(u->m, files, bytes);
	pthread_mutex_lock(&u->lock.m);
	/* Unknown outcome: told, most probably; the sums are repaired by fsck. */
	if (r < 0 && r != -ECOMM) {
		u->files += files;
		u->bytes += bytes;
	}
}

static void *usage_main(void *arg)
{
	struct mongo_usage *u = arg;

	pthread_mutex_lock(&u->lock.m);
	while (!u->stop) {
		struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + TELL_NS);

		if (!u->files && !u->bytes) {
			(void)pthread_cond_wait(&u->changed, &u->lock.m);
			continue;
		}
		while (!u->stop && pthread_cond_timedwait(&u->changed, &u->lock.m, &ts) == 0)
			;
		tell_all(u);
	}
	if (u->files || u->bytes)
		tell_all(u);
	pthread_mutex_unlock(&u->lock.m);
	return NULL;
}

int mongo_usage_init(struct mongo_engine *m)
{
	struct mongo_usage *u = calloc(1, sizeof(*u));
	pthread_condattr_t attr;

	if (!u)
		return -ENOMEM;
	u->m = m;
	pthread_mutex_init(&u->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->changed, &attr);
	pthread_condattr_destroy(&attr);
	m->usage = u;
	return 0;
}

void mongo_usage_free(struct mongo_engine *m)
{
	struct mongo_usage *u = m->usage;

	if (!u)
		return;
	{
		MFS_GUARD(&u->lock);

		u->stop = true;
		pthread_cond_signal(&u->changed);
	}
	if (u->running)
		pthread_join(u->thread, NULL);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->lock.m);
	free(u);
	m->usage = NULL;
}

void mongo_usage_add(struct mongo_engine *m, int64_t files, int64_t bytes)
{
	struct mongo_usage *u = m->usage;

	if (!u || (!files && !bytes))
		return;
	MFS_GUARD(&u->lock);

	if (!u->files && !u->bytes)
		pthread_cond_signal(&u->changed);
	u->files += files;
	u->bytes += bytes;
	/* The thread is made when there is something to tell: an engine that only reads has none. */
	if (!u->running)
		u->running = pthread_create(&u->thread, NULL, usage_main, u) == 0;
}

struct sums {
	int64_t files, bytes;
};

static int take_sums(void *arg, const bson_t *doc)
{
	struct mongo_doc d = { .bson = doc, .collection = MONGO_USAGE };
	struct sums *s = arg;

	if (!doc) {
		*s = (struct sums){ 0 };
		return 0;
	}
	s->files = (int64_t)((uint64_t)s->files + mongo_doc_u64(&d, "files"));
	s->bytes = (int64_t)((uint64_t)s->bytes + mongo_doc_u64(&d, "bytes"));
	return mongo_doc_end(&d);
}

int mongo_usage_sum(struct mongo_conn *c, uint64_t *ret_files, uint64_t *ret_bytes)
{
	struct mongo_usage *u = c->m->usage;
	bson_t filter = BSON_INITIALIZER;
	struct sums s = { 0 };
	int r = mongo_find(c, MONGO_READ, MONGO_USAGE, &filter, NULL, take_sums, &s);

	bson_destroy(&filter);
	if (r < 0)
		return r;
	if (u) {
		MFS_GUARD(&u->lock);

		s.files += u->files;
		s.bytes += u->bytes;
	}
	*ret_files = (uint64_t)MFS_MAX(s.files + 1, INT64_C(1)); /* the root, which no change made */
	*ret_bytes = (uint64_t)MFS_MAX(s.bytes, INT64_C(0));
	return 0;
}
