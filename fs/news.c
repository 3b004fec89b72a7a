/*
 * The newsroom: a bounded queue from the engine's thread to one of ours, and what each piece of news means here.
 *
 * An answer of the index that a request holds may be older than the news that are handled meanwhile. So each piece first
 * stamps inode and name (fs/inode.h, fs/names.h): whoever asked before finds the stamp when it hands its answer over, and
 * gives it to the kernel for no time. An answer that was handed over already but is not with the kernel yet would come
 * behind our notification: what was given lately is therefore told twice, the second time a moment later.
 */
#include "fs/news.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/op_ctx.h"
#include "fs/fuse/notify.h"
#include "fs/names.h"

#define MAX_QUEUED   65536
#define MAX_LISTENERS 4
#define LOOK_NS	     (100 * (int64_t)1000000) /* how often silence is looked for */
#define LAG_NS	     (100 * (int64_t)1000000) /* news that wait here for longer: what is cached is not believed */
#define LATELY_NS    (2 * MFS_NSEC_PER_SEC)   /* given to the kernel within: told twice */
#define FIRST_BEAT_NS (3 * MFS_NSEC_PER_SEC)  /* a mount that hears nothing for so long says so */
#define OPENER_JOBS  65536

struct item {
	struct item *next;
	struct news news; /* name and cell point behind it */
	struct mfs_name name;
	int64_t at; /* monotonic */
	char cell[];
};

struct listener {
	void (*fn)(void *arg, const struct news *news);
	void *arg;
};

struct newsroom {
	struct massfs *fs;
	struct workers *openers; /* looks whether an open file is in the trash */
	int64_t started;
	pthread_t thread;

	struct mfs_mutex lock; /* guards listeners, first, last, n_queued, overflow, stopping */
	struct listener listeners[MAX_LISTENERS];
	size_t n_listeners;
	pthread_cond_t wake;   /* first, overflow, stopping; with a time-out */
	struct item *first, **last;
	size_t n_queued;
	bool overflow, stopping;

	_Atomic int64_t oldest; /* when what is at the front came; 0: nothing waits */
	atomic_bool lost;	/* NEWS_LOST is in the queue, or being handled */
	atomic_bool silent;
	_Atomic uint64_t told, own, n_lost, silences;
};

/* ---- one piece ---- */

/* Its listing is another one. (News of the directory itself come too, as a rule: not when a mount died in between.) */
static void listing_changed(struct massfs *fs, mfs_ino_t dir)
{
	struct inode *i = inode_find(fs->inodes, dir);

	if (!i)
		return;
	{
		MFS_GUARD(&i->lock);

		i->cache_bad = true; /* an opendir before the notification reads it anew */
	}
	notify_inode(fs->notifier, dir, true);
	inode_put(fs->inodes, &i);
}

static void name_gone(void *arg, mfs_ino_t parent, const char *name, size_t len, bool again)
{
	struct massfs *fs = arg;

	listing_changed(fs, parent);
	notify_entry(fs->notifier, parent, name, len);
	if (again)
		notify_entry_later(fs->notifier, parent, name, len);
}

/* Whether pages of the kernel are of an older content than `data`, and then it is told to drop them. i->lock is held. */
static bool pages_moved_locked(struct inode *i, uint64_t data) MFS_REQUIRES(i->lock)
{
	bool dir = attr_is_dir(&i->attr);

	if (i->content)
		i->pages = content_pages(i->content, i->pages);
	if (!dir && ((!i->pages && !i->n_open) || data <= i->pages))
		return false;
	i->cache_bad = true; /* an open before the notification keeps no page */
	if (!dir)
		i->pages = data;
	return true;
}

static void tell_inode(struct massfs *fs, mfs_ino_t ino, bool pages, int64_t given)
{
	notify_inode(fs->notifier, ino, pages);
	if (mfs_mono_ns() - given < LATELY_NS)
		notify_inode_later(fs->notifier, ino);
}

static void name_told(struct massfs *fs, const struct news *w, mfs_ino_t target)
{
	mfs_ino_t parent = w->name ? w->parent : 0;

	if (!names_news(fs->names, w->ino, target, parent, parent ? w->name->bytes : "", parent ? w->name->len : 0, name_gone, fs))
		listing_changed(fs, parent);
}

static void record_changed(struct newsroom *n, const struct news *w)
{
	struct massfs *fs = n->fs;
	struct inode *i;
	bool pages, known;
	int64_t given;

	name_told(fs, w, w->ino);
	i = inode_find(fs->inodes, w->ino);
	if (!i) {
		inode_news(fs->inodes, w->ino);
		return;
	}
	{
		MFS_GUARD(&i->lock);

		known = w->ver && i->attr_valid && i->attr.ver >= w->ver;
		given = i->given;
		if (i->content)
			content_news(i->content, w->data, w->lay);
		pages = pages_moved_locked(i, w->data);
	}
	if (!known)
		inode_news(fs->inodes, w->ino);
	if (!known || pages)
		tell_inode(fs, w->ino, pages, given);
	inode_put(fs->inodes, &i);
}

/* An open file that others removed: as long as it is in our `openers`, its content stays. */
struct opener_job {
	struct massfs *fs;
	struct inode *inode; /* a ref */
};

static void look_for_trash(void *arg)
{
	struct opener_job *job = arg;
	struct massfs *fs = job->fs;
	struct inode *i = job->inode;
	struct op_ctx op = { 0 };
	struct mfs_attr attr;
	uint64_t epoch = inode_epoch(fs->inodes);
	int r = namespace_opened(fs->vol->ns, &op, i->ino, &attr);
	bool closed;

	if (r == 0) {
		inode_take(i, epoch, &attr);
		{
			MFS_GUARD(&i->lock);

			closed = i->n_open == 0;
		}
		if (closed) /* meanwhile; whoever closed it did not know */
			r = namespace_closed(fs->vol->ns, &op, i->ino);
	}
	if (r < 0 && r != -ESTALE)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &op,
			"inode %" PRIu64 " is open here and was removed by another mount, and it cannot be told so (%s): after its "
			"retention its content may go",
			i->ino, strerror(-r));
	inode_put(fs->inodes, &job->inode);
	free(job);
}

static void check_open(struct inode *i, void *arg)
{
	struct newsroom *n = arg;
	struct opener_job *job;
	bool open;

	{
		MFS_GUARD(&i->lock);

		open = i->n_open > 0 && !i->gone && S_ISREG(i->attr.mode) && !(i->attr.flags & ATTR_IN_TRASH);
	}
	job = open && !n->fs->cfg->ro ? malloc(sizeof(*job)) : NULL;
	if (!job)
		return;
	*job = (struct opener_job){ n->fs, inode_ref(i) };
	if (workers_try_submit(n->openers, look_for_trash, job) == 0)
		return;
	inode_put(n->fs->inodes, &job->inode);
	free(job);
}

static void record_gone(struct newsroom *n, const struct news *w)
{
	struct massfs *fs = n->fs;
	struct inode *i;
	int64_t given;

	names_news_gone(fs->names, w->ino, name_gone, fs);
	inode_news(fs->inodes, w->ino);
	i = inode_find(fs->inodes, w->ino);
	if (!i)
		return;
	{
		MFS_GUARD(&i->lock);

		given = i->given;
	}
	tell_inode(fs, w->ino, false, given);
	check_open(i, n);
	inode_put(fs->inodes, &i);
}

static void alias_changed(struct newsroom *n, const struct news *w)
{
	name_told(n->fs, w, w->target);
}

/* Content that is open is read again at its next use; of pages it is not known whose they are. */
static void forget_content(struct inode *i, void *arg)
{
	(void)arg;
	MFS_GUARD(&i->lock);

	if (i->content) {
		i->pages = content_pages(i->content, i->pages);
		content_news(i->content, UINT64_MAX, UINT64_MAX);
	}
	if (i->n_open)
		i->pages = 0;
	i->cache_bad |= i->n_open || attr_is_dir(&i->attr);
}

static void all_lost(struct newsroom *n)
{
	const struct mfs_config *cfg = n->fs->cfg;
	bool told_long = cfg->has_entry_timeout || cfg->has_negative_timeout; /* else names end by themselves as soon */

	inode_lost(n->fs->inodes);
	inode_table_walk(n->fs->inodes, forget_content, NULL);
	names_lost(n->fs->names, told_long ? name_gone : NULL, n->fs);
	notify_all(n->fs->notifier);
}

static void tell_listeners(struct newsroom *n, const struct news *w)
{
	struct listener all[MAX_LISTENERS];
	size_t count;

	{
		MFS_GUARD(&n->lock);

		count = n->n_listeners;
		memcpy(all, n->listeners, sizeof(all));
	}
	for (size_t k = 0; k < count; k++)
		all[k].fn(all[k].arg, w);
}

static void recheck(void *arg)
{
	struct massfs *fs = arg;
	struct op_ctx op = { 0 };

	namespace_recheck(fs->vol->ns, &op);
}

/* Where no job can be queued what is to be done waits for the next that can. */
static void tell_namespace(struct newsroom *n, const struct news *w)
{
	if (namespace_news(n->fs->vol->ns, w))
		(void)!workers_try_submit(n->openers, recheck, n->fs);
}

static void handle(struct newsroom *n, const struct news *w)
{
	bool own = w->session && w->session == atomic_load(&n->fs->vol->engine->session);

	atomic_fetch_add(&n->told, 1);
	if (!own)
		tell_namespace(n, w);
	switch (w->kind) {
	case NEWS_RECORD:
	case NEWS_ALIAS:
	case NEWS_GONE:
		if (own)
			atomic_fetch_add(&n->own, 1);
		else if (w->kind == NEWS_RECORD)
			record_changed(n, w);
		else if (w->kind == NEWS_ALIAS)
			alias_changed(n, w);
		else
			record_gone(n, w);
		return;
	case NEWS_LOST:
		atomic_fetch_add(&n->n_lost, 1);
		all_lost(n);
		inode_table_walk(n->fs->inodes, check_open, n);
		tell_listeners(n, w);
		return;
	case NEWS_CELL:
		tell_listeners(n, w);
		return;
	case NEWS_SESSION:
		tell_listeners(n, w);
		return;
	case NEWS_SIDE:
		return;
	}
}

/* ---- the queue ---- */

static void drop_all_locked(struct newsroom *n) MFS_REQUIRES(n->lock)
{
	for (struct item *it = n->first, *next; it; it = next) {
		next = it->next;
		free(it);
	}
	n->first = NULL;
	n->last = &n->first;
	n->n_queued = 0;
}

static struct item *copy(const struct news *w)
{
	size_t len = w->cell ? strlen(w->cell) + 1 : 0;
	struct item *it = malloc(sizeof(*it) + len);

	if (!it)
		return NULL;
	it->next = NULL;
	it->news = *w;
	it->at = mfs_mono_ns();
	if (w->name)
		it->name = *w->name;
	it->news.name = w->name ? &it->name : NULL;
	if (len)
		memcpy(it->cell, w->cell, len);
	it->news.cell = len ? it->cell : NULL;
	return it;
}

/* On the engine's thread: only queues. What finds no room has been lost. */
static void told(void *arg, const struct news *w)
{
	struct newsroom *n = arg;
	struct item *it;

	if (w->kind == NEWS_SIDE) /* nothing of it is kept here */
		return;
	it = copy(w);
	MFS_GUARD(&n->lock);
	if (w->kind == NEWS_LOST)
		atomic_store(&n->lost, true);
	if (n->stopping) {
		free(it);
		return;
	}
	if (!it || n->n_queued >= MAX_QUEUED) {
		free(it);
		n->overflow = true;
		atomic_store(&n->lost, true);
	} else {
		*n->last = it;
		n->last = &it->next;
		if (n->n_queued++ == 0)
			atomic_store(&n->oldest, it->at);
	}
	pthread_cond_signal(&n->wake);
}

/* The next piece; NULL: a moment has passed, or *ret_stop. An overflow counts as NEWS_LOST. */
static struct item *next_item(struct newsroom *n, bool *ret_overflow, bool *ret_stop)
{
	struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + LOOK_NS);
	struct item *it;
	MFS_GUARD(&n->lock);

	if (!n->first) /* all is handled */
		atomic_store(&n->oldest, 0);
	while (!n->first && !n->overflow && !n->stopping)
		if (pthread_cond_timedwait(&n->wake, &n->lock.m, &until) == ETIMEDOUT)
			break;
	*ret_stop = n->stopping;
	*ret_overflow = n->overflow;
	if (n->overflow) {
		drop_all_locked(n);
		atomic_store(&n->oldest, 0);
	}
	n->overflow = false;
	it = n->first;
	if (it) {
		n->first = it->next;
		n->n_queued--;
		if (!n->first)
			n->last = &n->first;
	}
	return it;
}

/* Is there no NEWS_LOST behind what was just handled? */
static void lost_handled(struct newsroom *n)
{
	MFS_GUARD(&n->lock);

	for (const struct item *it = n->first; it; it = it->next)
		if (it->news.kind == NEWS_LOST)
			return;
	if (!n->overflow)
		atomic_store(&n->lost, false);
}

static void look_for_silence(struct newsroom *n)
{
	int64_t beat = engine_last_beat(n->fs->vol->engine), now = mfs_mono_ns();
	bool silent = beat != INT64_MAX && now - beat > NEWS_SILENCE_NS, was = atomic_load(&n->silent);

	if (silent == was)
		return;
	if (silent && !beat && now - n->started < FIRST_BEAT_NS)
		return;
	atomic_store(&n->silent, silent);
	if (!silent) {
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL, "news of other mounts' changes come again");
		return;
	}
	atomic_fetch_add(&n->silences, 1);
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
		"no news of other mounts' changes for %" PRId64 " ms: until they come again the index is asked each time (is MongoDB "
		"reached?)",
		(beat ? now - beat : now - n->started) / 1000000);
	all_lost(n);
}

static void *run(void *arg)
{
	struct newsroom *n = arg;
	bool stop = false, overflow;
	int64_t looked = 0;

	while (!stop) {
		struct item *it = next_item(n, &overflow, &stop);
		int64_t now = mfs_mono_ns();

		if (overflow) {
			handle(n, &(struct news){ .kind = NEWS_LOST });
			lost_handled(n);
		}
		if (it) {
			atomic_store(&n->oldest, it->at);
			handle(n, &it->news);
			if (it->news.kind == NEWS_LOST)
				lost_handled(n);
			free(it);
		}
		if (now - looked >= LOOK_NS) {
			looked = now;
			look_for_silence(n);
		}
	}
	return NULL;
}

/* ---- for others ---- */

bool news_live(const struct newsroom *n)
{
	int64_t beat, now, oldest;

	if (!n)
		return true;
	beat = engine_last_beat(n->fs->vol->engine);
	now = mfs_mono_ns();
	oldest = atomic_load(&n->oldest);
	return (beat == INT64_MAX || now - beat < NEWS_SILENCE_NS) && !atomic_load(&n->lost) && !atomic_load(&n->silent) &&
	       (!oldest || now - oldest < LAG_NS);
}

int news_listen(struct newsroom *n, void (*fn)(void *arg, const struct news *news), void *arg)
{
	MFS_GUARD(&n->lock);

	if (n->n_listeners == MAX_LISTENERS)
		return -ENOSPC;
	n->listeners[n->n_listeners++] = (struct listener){ fn, arg };
	return 0;
}

void news_content_moved(void *arg, mfs_ino_t ino)
{
	struct massfs *fs = arg;
	struct inode *i = inode_find(fs->inodes, ino);

	if (!i)
		return;
	{
		MFS_GUARD(&i->lock);

		i->cache_bad = true;
	}
	notify_inode(fs->notifier, ino, true);
	notify_inode_later(fs->notifier, ino);
	inode_put(fs->inodes, &i);
}

void news_stats(struct newsroom *n, struct news_stats *ret)
{
	int64_t beat = n ? engine_last_beat(n->fs->vol->engine) : INT64_MAX;

	*ret = (struct news_stats){ .live = news_live(n) };
	if (!n)
		return;
	ret->silent_ns = beat == INT64_MAX ? 0 : beat ? mfs_mono_ns() - beat : -1;
	ret->told = atomic_load(&n->told);
	ret->own = atomic_load(&n->own);
	ret->lost = atomic_load(&n->n_lost);
	ret->silences = atomic_load(&n->silences);
}

static void newsroom_free(struct newsroom *n)
{
	if (n->openers)
		workers_free(n->openers);
	{
		MFS_GUARD(&n->lock);

		drop_all_locked(n);
	}
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->lock.m);
	free(n);
}

int news_start(struct massfs *fs, struct newsroom **ret)
{
	pthread_condattr_t attr;
	struct newsroom *n;
	int r;

	*ret = NULL;
	if (!(fs->vol->engine->ops->caps & ENGINE_NEWS))
		return 0;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->fs = fs;
	names_hook(fs->names, name_gone, fs);
	n->last = &n->first;
	n->started = mfs_mono_ns();
	pthread_mutex_init(&n->lock.m, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = workers_new("opener", 1, OPENER_JOBS, &n->openers);
	if (r == 0)
		r = engine_watch(fs->vol->engine, told, n);
	if (r == 0) {
		r = -pthread_create(&n->thread, NULL, run, n);
		if (r < 0)
			(void)!engine_watch(fs->vol->engine, NULL, NULL);
	}
	if (r < 0) {
		newsroom_free(n);
		return r;
	}
	pthread_setname_np(n->thread, "news");
	namespace_hears(fs->vol->ns);
	*ret = n;
	return 0;
}

void news_stop(struct newsroom *n)
{
	if (!n)
		return;
	(void)!engine_watch(n->fs->vol->engine, NULL, NULL);
	{
		MFS_GUARD(&n->lock);

		n->stopping = true;
		pthread_cond_signal(&n->wake);
	}
	pthread_join(n->thread, NULL);
	newsroom_free(n);
}
