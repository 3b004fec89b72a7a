/* What the open files of a mount share, and the thread that commits what is dirty for long. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/workers.h"
#include "fs/content_internal.h"

#define FETCHERS    16
#define READERS	    16 /* the widest window */

void content_env_init(struct content_env *env, struct volume *vol, struct budget *budget, struct workers *uploaders)
{
	*env = (struct content_env){ .vol = vol, .budget = budget, .uploaders = uploaders };
	pthread_mutex_init(&env->lock.m, NULL);
	pthread_mutex_init(&env->patch_lock.m, NULL);
#ifdef MASSFS_CRASH_POINTS
	if (getenv("MASSFS_TEST_SLICES_MAX")) /* so that a short workload is composed */
		env->slices_max = (size_t)atoi(getenv("MASSFS_TEST_SLICES_MAX"));
#endif
	if (object_store_caps(vol->store) & OBJECT_CAP_FD)
		return;
	/* Without them it is slower. */
	if (workers_new("fetch", FETCHERS, 4 * FETCHERS, &env->fetchers) < 0)
		env->fetchers = NULL;
	if (workers_new("read-ahead", READERS, 4 * READERS, &env->readers) < 0)
		env->readers = NULL;
}

void content_env_release(struct content_env *env)
{
	assert(!env->first);
	workers_free(env->readers);
	workers_free(env->fetchers);
	for (size_t i = 0; i < CONTENT_PATCHES; i++)
		blob_put(env->patches[i]);
	pthread_mutex_destroy(&env->patch_lock.m);
	pthread_mutex_destroy(&env->lock.m);
}

/* The next file that has waited long enough, made busy. */
static struct content *take_overdue(struct content_env *env, int64_t now_ns)
{
	int64_t wait = env->vol->cfg->commit_ns;
	MFS_GUARD(&env->lock);

	for (struct content *i = env->first; i; i = i->next) {
		MFS_GUARD(&i->lock);
		/* A stream is one object as long as it goes on: committed in between, its rest would be patches. */
		int64_t since = i->upload || upload_suits_locked(i) ? i->written : i->dirty_since;

		/* Where a close may refuse it, it is better not committed before. */
		if (!i->dirty || i->busy || i->failed || i->rules.at_close || now_ns - since < wait)
			continue;
		i->busy = true;
		return i;
	}
	return NULL;
}

void content_env_tick(struct content_env *env, struct op_ctx *op, int64_t now_ns)
{
	struct content *c;

	if (env->vol->cfg->commit_ns <= 0)
		return;
	while ((c = take_overdue(env, now_ns))) {
		int r = content_commit(c, op, NULL, NULL);

		if (r < 0)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
				"inode %" PRIu64 ": what was written could not be stored (%s); tried again, and fsync or close will say",
				c->ino, strerror(-r));
		MFS_GUARD(&c->lock);
		c->dirty_since = c->written = now_ns; /* one that failed waits for its next turn */
		content_leave_locked(c);
	}
}
