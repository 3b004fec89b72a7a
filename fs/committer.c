/*
 * The thread of commit=.
 */
#include "fs/committer.h"

#include <errno.h>
#include <pthread.h>

#include "common/clock.h"
#include "common/op_ctx.h"
#include "common/thread.h"

#define PERIOD_NS MFS_NSEC_PER_SEC

struct committer {
	struct content_env *env;
	pthread_t thread;
	struct mfs_mutex lock;
	pthread_cond_t wake; /* `lock`; predicate: stopping */
	bool stopping; /* guarded by lock */
};

static bool sleep_a_while(struct committer *c)
{
	struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + PERIOD_NS);

	MFS_GUARD(&c->lock);
	while (!c->stopping)
		if (pthread_cond_clockwait(&c->wake, &c->lock.m, CLOCK_MONOTONIC, &ts) == ETIMEDOUT)
			break;
	return !c->stopping;
}

static void *committer_main(void *arg)
{
	struct committer *c = arg;

	pthread_setname_np(pthread_self(), "committer");
	while (sleep_a_while(c)) {
		struct op_ctx op = { 0 };

		content_env_tick(c->env, &op, mfs_mono_ns());
	}
	return NULL;
}

int committer_start(struct content_env *env, struct committer **ret)
{
	struct committer *c;
	int r;

	*ret = NULL;
	if (env->vol->cfg->commit_ns <= 0)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->env = env;
	pthread_mutex_init(&c->lock.m, NULL);
	pthread_cond_init(&c->wake, NULL);
	r = mfs_thread_start(&c->thread, committer_main, c);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void committer_stop(struct committer *c)
{
	if (!c)
		return;
	{
		MFS_GUARD(&c->lock);

		c->stopping = true;
		pthread_cond_signal(&c->wake);
	}
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock.m);
	free(c);
}
