/*
 * Choosing among nodes, and watching those that are down.
 */
#include "backend/s3_endpoints.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/conf.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/sync.h"

#define N_MAX	 64
#define PROBE_NS MFS_NSEC_PER_SEC
#define PROBES	 2 /* without an answer: down */

struct node {
	struct s3_url url; /* immutable */
	_Atomic unsigned int falls;
	/* Guarded by lock. */
	bool down, doubted;
	unsigned int unanswered; /* questions in a row, while doubted */
	unsigned int under_way;
	int64_t took_ns; /* smoothed */
	int64_t since;	 /* wall time of the last change */
	uint64_t requests, failures;
	char why[128];
};

struct s3_endpoints {
	struct mfs_mutex lock;
	pthread_cond_t wake;
	struct node node[N_MAX];
	unsigned int n, next;
	bool stop, has_thread;
	pthread_t thread;
	s3_probe_fn *probe;
	void *arg;
};

int s3_endpoints_new(const char *list, s3_probe_fn *probe, void *arg, struct s3_endpoints **ret, char **ret_reason)
{
	MFS_AUTOFREE char *copy = strdup(list ? list : "");
	struct s3_endpoints *e = calloc(1, sizeof(*e));
	char *word, *text = copy, *save = NULL;
	pthread_condattr_t attr;
	int r = copy && e ? 0 : -ENOMEM;

	if (!e)
		return -ENOMEM;
	pthread_mutex_init(&e->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->wake, &attr);
	pthread_condattr_destroy(&attr);
	e->probe = probe;
	e->arg = arg;
	for (; r == 0 && (word = strtok_r(text, ", \t\n", &save)); text = NULL) {
		if (e->n == N_MAX)
			r = mfs_fail(ret_reason, -EINVAL, "endpoint: more than %d", N_MAX);
		else
			r = s3_url_parse(word, &e->node[e->n].url, ret_reason);
		if (r == 0)
			e->node[e->n++].since = mfs_now_ns();
	}
	if (r == 0 && !e->n)
		r = mfs_fail(ret_reason, -EINVAL, "endpoint: none is given (http://HOST:PORT, several with commas)");
	if (r < 0)
		s3_endpoints_free(e);
	else
		*ret = e;
	return r;
}

void s3_endpoints_free(struct s3_endpoints *e)
{
	bool has_thread;

	if (!e)
		return;
	{
		MFS_GUARD(&e->lock);
		e->stop = true;
		has_thread = e->has_thread;
		pthread_cond_broadcast(&e->wake);
	}
	if (has_thread)
		pthread_join(e->thread, NULL);
	for (unsigned int i = 0; i < e->n; i++)
		s3_url_release(&e->node[i].url);
	pthread_cond_destroy(&e->wake);
	pthread_mutex_destroy(&e->lock.m);
	free(e);
}

size_t s3_endpoints_count(const struct s3_endpoints *e)
{
	return e->n;
}

const struct s3_url *s3_endpoints_url(const struct s3_endpoints *e, unsigned int i)
{
	return &e->node[i].url;
}

unsigned int s3_endpoints_take(struct s3_endpoints *e, int not)
{
	unsigned int best = 0;
	bool found = false;

	MFS_GUARD(&e->lock);
	e->next = (e->next + 1) % e->n;
	/* From a turning start, so that equal ones are used alike. First those without a doubt but `not`, then with `not`, then
	 * the doubted, then any. */
	for (int pass = 0; pass < 6 && !found; pass++) {
		for (unsigned int k = 0; k < e->n; k++) {
			unsigned int i = (e->next + k) % e->n;

			if ((pass < 4 && e->node[i].down) || (pass < 2 && e->node[i].doubted) || (pass % 2 == 0 && (int)i == not))
				continue;
			if (!found || e->node[i].under_way < e->node[best].under_way)
				best = i;
			found = true;
		}
	}
	e->node[best].under_way++;
	e->node[best].requests++;
	return best;
}

static void mark_up_locked(struct node *n)
{
	n->doubted = false;
	n->unanswered = 0;
	if (!n->down)
		return;
	n->down = false;
	n->since = mfs_now_ns();
	mfs_log(MFS_LOG_STORE, MFS_LOG_INFO, NULL, "s3 node %s answers again", n->url.authority);
}

static void mark_down_locked(struct s3_endpoints *e, struct node *n)
{
	n->doubted = false;
	n->unanswered = 0;
	if (n->down)
		return;
	n->down = true;
	n->since = mfs_now_ns();
	if (e->n > 1) /* else there is nowhere to go */
		atomic_fetch_add(&n->falls, 1);
	mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, NULL, "s3 node %s does not answer (%s); %s until it does", n->url.authority, n->why,
		e->n > 1 ? "others are used" : "requests wait");
}

/* One round over the nodes that are down or doubted; the number of them. */
static unsigned int probe_round(struct s3_endpoints *e)
{
	unsigned int n_ill = 0;

	for (unsigned int i = 0; i < e->n; i++) {
		struct node *n = &e->node[i];
		bool ill, up;

		{
			MFS_GUARD(&e->lock);
			ill = (n->down || n->doubted) && !e->stop;
		}
		if (!ill)
			continue;
		up = e->probe(e->arg, &n->url);
		MFS_GUARD(&e->lock);
		if (up)
			mark_up_locked(n);
		else if (n->doubted && ++n->unanswered >= PROBES)
			mark_down_locked(e, n);
		n_ill += n->down || n->doubted;
	}
	return n_ill;
}

/* Sleeps while all are healthy. */
static void *watch(void *arg)
{
	struct s3_endpoints *e = arg;

	for (;;) {
		unsigned int n_ill = probe_round(e);
		struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + PROBE_NS);

		MFS_GUARD(&e->lock);
		for (unsigned int i = 0; !n_ill && i < e->n; i++)
			n_ill += e->node[i].down || e->node[i].doubted;
		if (!e->stop && n_ill)
			pthread_cond_timedwait(&e->wake, &e->lock.m, &ts);
		else if (!e->stop)
			pthread_cond_wait(&e->wake, &e->lock.m);
		if (e->stop)
			return NULL;
	}
}

static void need_thread_locked(struct s3_endpoints *e) MFS_REQUIRES(e->lock)
{
	if (e->has_thread) {
		pthread_cond_signal(&e->wake);
		return;
	}
	e->has_thread = mfs_thread_start(&e->thread, watch, e) == 0; /* else: with the next failure */
}

void s3_endpoints_done(struct s3_endpoints *e, unsigned int i, enum s3_outcome outcome, int64_t took_ns, const char *why)
{
	struct node *n = &e->node[i];

	MFS_GUARD(&e->lock);
	n->under_way--;
	if (outcome == S3_ANSWERED) {
		n->took_ns = n->took_ns ? (n->took_ns * 7 + took_ns) / 8 : took_ns;
		mark_up_locked(n);
	}
	if (outcome != S3_SILENT && outcome != S3_BROKEN)
		return;
	n->failures++;
	snprintf(n->why, sizeof(n->why), "%s", why);
	if (outcome == S3_BROKEN)
		mark_down_locked(e, n);
	else if (!n->down)
		n->doubted = true;
	need_thread_locked(e);
}

void s3_endpoints_doubt(struct s3_endpoints *e, unsigned int i, const char *why)
{
	struct node *n = &e->node[i];

	MFS_GUARD(&e->lock);
	if (n->down || n->doubted)
		return;
	n->doubted = true;
	snprintf(n->why, sizeof(n->why), "%s", why);
	need_thread_locked(e);
}

const _Atomic unsigned int *s3_endpoints_falls(const struct s3_endpoints *e, unsigned int i)
{
	return &e->node[i].falls;
}

int s3_endpoints_each(struct s3_endpoints *e, s3_endpoint_fn *fn, void *arg)
{
	for (unsigned int i = 0; i < e->n; i++) {
		struct s3_endpoint_state s;
		int r;

		{
			MFS_GUARD(&e->lock);
			s = (struct s3_endpoint_state){
				.host = e->node[i].url.authority,
				.https = e->node[i].url.https,
				.up = !e->node[i].down,
				.since = e->node[i].since,
				.latency_ns = e->node[i].took_ns,
				.under_way = e->node[i].under_way,
				.requests = e->node[i].requests,
				.failures = e->node[i].failures,
			};
			memcpy(s.why, e->node[i].why, sizeof(s.why));
		}
		r = fn(arg, &s);
		if (r)
			return r;
	}
	return 0;
}
