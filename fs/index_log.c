/*
 * Writing the index log. One thread does everything: a changes object when it is due, and, page by page with changes in
 * between, a snapshot when one is needed. A tool, which has no thread, writes one changes object at its end.
 */
#include "fs/index_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "fs/index_log_writer.h"

/* Half of the 10,000 that the log may be behind: as many again may come while these are written. */
#define CHANGES_MAX   5000
#define SNAPSHOT_MIN  (UINT64_C(1) << 20) /* bytes of changes below which no new one is worth it */
#define OBJECTS_MAX   256 /* changes objects over a snapshot */
#define RETRY_NS      (10 * MFS_NSEC_PER_SEC)
#define LAST_NS	      (10 * MFS_NSEC_PER_SEC) /* for the last part, at the unmount, from an index that may be away */
#define LAST_TRIES    5
#define FIRST_NS      (150 * MFS_NSEC_PER_SEC) /* for a first snapshot there */
#define STAND_BY_NS   (500 * INT64_C(1000000)) /* between two looks at the lease */

/* --- where to go on --- */

/* The last changes object of the newest epoch; NULL: none. */
static const struct log_object *last_changes(const struct log_objects *all)
{
	const struct log_object *last = all->n ? &all->v[all->n - 1] : NULL;

	return last && !last->is_snapshot ? last : NULL;
}

static bool goes_on(const struct index_log *l, const struct log_facts *last)
{
	return last->state.clean && l->before.session && l->before.closed &&
	       last->header.session == l->before.session;
}

/* The newest complete snapshot of the epoch. Only its size is looked at: rebuild verifies. */
static void find_snapshot(struct index_log *l, const struct log_objects *all)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct log_object *o = &all->v[i];

		if (o->epoch != l->epoch)
			continue;
		if (o->is_snapshot) {
			l->has_snapshot = true;
			l->snapshot_bytes = o->size;
			l->snapshot = o->number;
		} else {
			l->changes_bytes += o->size;
		}
	}
}

static int find_end(struct index_log *l)
{
	struct log_facts facts = { 0 };
	const struct log_object *last;
	struct log_objects all;
	int r = log_objects_list(l->v->store, &l->op, &all);

	if (r < 0)
		return r;
	last = last_changes(&all);
	l->epoch = all.n ? all.v[all.n - 1].epoch : 0;
	r = last ? log_object_verify(l->v->store, &l->op, last, &facts) : -ENOENT;
	if (r == 0 && goes_on(l, &facts)) {
		l->number = last->number;
		l->previous = facts.sum;
		find_snapshot(l, &all);
		l->need_snapshot = !l->has_snapshot;
	} else {
		index_log_begin_epoch(l);
	}
	log_objects_release(&all);
	if (r < 0 && r != -ENOENT && r != -EUCLEAN)
		return r;
	l->opened = true;
	return 0;
}

/* --- the thread --- */

bool index_log_is_stopping(struct index_log *l)
{
	MFS_GUARD(&l->lock);
	return l->stop;
}

bool index_log_take_due(struct index_log *l)
{
	int64_t now = mfs_mono_ns();
	bool due;
	MFS_GUARD(&l->lock);

	due = l->due || now >= l->next;
	l->due = false;
	if (due)
		l->next = now + l->interval;
	return due;
}

static void complain(struct index_log *l, int r)
{
	int64_t now = mfs_mono_ns();

	index_log_set_status(l, r, 0);
	if (l->last_log && now - l->last_log < 60 * MFS_NSEC_PER_SEC)
		return;
	l->last_log = now;
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &l->op,
		"%s: the index log cannot be written (%s): a lost index could be rebuilt only up to its last part; tried again",
		l->v->dir, strerror(-r));
}

static int open_log(struct index_log *l)
{
	if (l->opened)
		return 0;
	return l->shared ? index_log_shared_take_over(l) : find_end(l);
}

static int work_once(struct index_log *l, bool due)
{
	int r = open_log(l);

	if (r == 0 && due)
		r = index_log_write_changes(l, LOG_CUT_DUE);
	if (r == 0 && (l->changes_bytes > MFS_MAX(l->snapshot_bytes, SNAPSHOT_MIN) ||
		       l->number - l->snapshot > OBJECTS_MAX))
		l->need_snapshot = true;
	if (r == 0 && l->need_snapshot) {
		r = index_log_write_snapshot(l);
		if (r == -ESTALE || r == -ECANCELED)
			r = 0; /* again, or not now */
	}
	return r;
}

/* Wait until changes are due, or there is a snapshot to be begun. False: the end. */
static bool wait_for_work(struct index_log *l, int64_t not_before)
{
	MFS_GUARD(&l->lock);

	while (!l->stop) {
		int64_t now = mfs_mono_ns(), wake = not_before ? not_before : l->next;
		struct timespec until = mfs_ns_to_timespec(wake);

		if (now >= wake || (!not_before && (l->due || l->need_snapshot)))
			return true;
		(void)pthread_cond_timedwait(&l->work, &l->lock.m, &until);
	}
	return false;
}

/* Another mount writes the log. */
static void stand_by(struct index_log *l)
{
	MFS_GUARD(&l->lock);

	l->opened = false;
	l->status.elsewhere = true;
	l->status.error = 0;
}

static void *run(void *arg)
{
	struct index_log *l = arg;
	int64_t not_before = 0;

	while (wait_for_work(l, not_before)) {
		int r;

		if (l->shared && !lease_hold(l->v, LEASE_LOG)) {
			stand_by(l);
			not_before = mfs_mono_ns() + STAND_BY_NS;
			continue;
		}
		r = work_once(l, index_log_take_due(l));
		not_before = 0;
		if (r == -EAGAIN && l->shared) { /* another mount has taken over, and tells so soon */
			not_before = mfs_mono_ns() + STAND_BY_NS;
		} else if (r < 0) {
			complain(l, r);
			not_before = mfs_mono_ns() + RETRY_NS;
		}
	}
	return NULL;
}

static void wake(void *arg)
{
	struct index_log *l = arg;
	MFS_GUARD(&l->lock);

	l->due = true;
	pthread_cond_signal(&l->work);
}

int index_log_open(struct volume *v, const struct index_log_before *before, int64_t interval_ns,
		   bool with_thread, struct index_log **ret)
{
	struct index_log *l = calloc(1, sizeof(*l));
	pthread_condattr_t monotonic;
	int r = 0;

	if (!l)
		return -ENOMEM;
	l->v = v;
	l->interval = interval_ns;
	l->shared = !before;
	l->first_session = v->session;
	if (before)
		l->before = *before;
	pthread_mutex_init(&l->lock.m, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->work, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (with_thread) {
		log_engine_on(v->logged, CHANGES_MAX, wake, l);
		l->need_snapshot = true; /* look at once whether it is */
		r = mfs_thread_start(&l->thread, run, l);
		l->has_thread = r == 0;
	}
	if (r < 0) {
		index_log_abandon(l);
		return r;
	}
	*ret = l;
	return 0;
}

static int try_last_shared(struct index_log *l)
{
	bool others = false;
	int r;

	l->op.deadline_ns = mfs_mono_ns() + LAST_NS;
	r = index_log_shared_others(l, &others);

	if (r == 0 && others && !l->opened && !log_engine_is_whole(l->v->logged))
		return 0;
	if (r == 0 && !l->opened)
		r = index_log_shared_take_over(l);
	for (int i = 0; i < 2 && r == 0; i++) { /* the second time if the notes were lost meanwhile */
		if (!l->has_snapshot) {
			l->op.deadline_ns = mfs_mono_ns() + FIRST_NS;
			r = others ? -ECANCELED : index_log_write_snapshot(l);
		}
		if (r == 0)
			r = index_log_write_changes(l, others ? LOG_CUT_ALL : LOG_CUT_LAST);
		if (l->has_snapshot)
			break;
	}
	return r;
}

/*
 * With several mounts whoever ends writes the last part, as nobody may come to do it. Not so one that has not noted enough
 * to go on, while another lives who has.
 */
static int write_last_shared(struct index_log *l)
{
	int r = -EAGAIN;

	/* -EAGAIN: another has written meanwhile, maybe long ago, and may have ended since. */
	for (int i = 0; i < LAST_TRIES && r == -EAGAIN; i++)
		r = try_last_shared(l);
	return r == -EAGAIN || r == -ECANCELED ? 0 : r;
}

/* The last part. Of a chain that is broken a tool writes none: the next mount begins a new one. */
static int write_last(struct index_log *l)
{
	bool tool = !l->has_thread;
	int r = l->opened ? 0 : find_end(l);

	if (r < 0 || (tool && !l->has_snapshot))
		return r;
	if (l->need_snapshot && !l->has_snapshot)
		r = index_log_write_snapshot(l);
	return r < 0 && r != -ECANCELED && r != -ESTALE ? r : index_log_write_changes(l, LOG_CUT_LAST);
}

void index_log_stop(struct index_log *l)
{
	if (!l || !l->has_thread || l->stop)
		return;
	{
		MFS_GUARD(&l->lock);
		l->stop = true;
		pthread_cond_signal(&l->work);
	}
	pthread_join(l->thread, NULL);
	log_engine_on(l->v->logged, 0, NULL, NULL);
}

void index_log_close(struct index_log *l)
{
	int r;

	if (!l)
		return;
	index_log_stop(l);
	r = l->shared ? write_last_shared(l) : write_last(l);
	if (r < 0) {
		l->last_log = 0;
		complain(l, r);
	}
	index_log_abandon(l);
}

void index_log_abandon(struct index_log *l)
{
	if (!l)
		return;
	index_log_stop(l);
	pthread_cond_destroy(&l->work);
	pthread_mutex_destroy(&l->lock.m);
	free(l);
}

void index_log_status(struct index_log *l, struct index_log_status *ret)
{
	uint64_t writing;
	int64_t since;

	log_engine_pending(l->v->logged, &ret->behind, &ret->behind_since);
	writing = ret->behind;
	since = ret->behind_since;
	{
		MFS_GUARD(&l->lock);
		*ret = l->status;
		ret->behind = writing + l->writing;
		ret->behind_since = l->writing_since ? l->writing_since : since;
	}
}

int index_log_break(struct object_store *s, struct op_ctx *op)
{
	struct record_header h = { .stream = RECORD_STREAM_CHANGES, .number = 1 };
	struct object_meta meta = { .ino = INDEX_LOG_INO, .session = 1, .mode = 0400, .mtime = mfs_now_ns() };
	struct record_state state = { .complete = meta.mtime };
	struct log_objects all;
	struct log_output out;
	uint64_t sum, bytes;
	int r = log_objects_list(s, op, &all);

	if (r < 0 || all.n == 0)
		return r;
	h.epoch = all.v[all.n - 1].epoch + 1;
	log_objects_release(&all);
	meta.uid = (uint32_t)geteuid();
	meta.gid = (uint32_t)getegid();
	r = log_output_open(&out, s, op, &meta, &h);
	return r < 0 ? r : log_output_commit(&out, &state, &sum, &bytes);
}
