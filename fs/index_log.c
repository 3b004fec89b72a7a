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
#include "common/crash_point.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/op_ctx.h"
#include "common/sync.h"
#include "fs/index_log_internal.h"
#include "meta/log_engine.h"
#include "meta/record_dump.h"

/* Half of the 10,000 that the log may be behind: as many again may come while these are written. */
#define CHANGES_MAX   5000
#define SNAPSHOT_RATE 20000 /* records a second, in the background */
#define SNAPSHOT_MIN  (UINT64_C(1) << 20) /* bytes of changes below which no new one is worth it */
#define OBJECTS_MAX   256 /* changes objects over a snapshot */
#define RETRY_NS      (10 * MFS_NSEC_PER_SEC)
#define CLOSE_MAX_NS  (120 * MFS_NSEC_PER_SEC) /* for a first snapshot at the unmount */

struct index_log {
	struct volume *v;
	int64_t interval;
	struct index_log_before before;
	bool has_thread;
	pthread_t thread;

	struct mfs_mutex lock; /* nothing is called with it held */
	pthread_cond_t work; /* due || stop; or the time has come (CLOCK_MONOTONIC) */
	bool due, stop;
	struct index_log_status status;
	uint64_t writing; /* changes of the cut that is being stored; 0: none is */
	int64_t writing_since;

	/* The thread's own; after its end, the closer's. */
	struct op_ctx op;
	bool opened; /* epoch, number, previous are known */
	uint64_t epoch;
	uint64_t number; /* of the last changes object; 0: none in this epoch */
	uint64_t previous; /* its sum */
	bool has_snapshot; /* a complete one in this epoch */
	uint64_t snapshot_bytes, changes_bytes; /* of objects: the last snapshot, and the changes after it */
	bool need_snapshot;
	uint64_t snapshot; /* its number */
	int64_t complete; /* wall time of the last cut */
	int64_t next; /* CLOCK_MONOTONIC: when changes are due by time */
	int64_t last_log; /* of an error, so as not to fill the journal */
};

/* --- one changes object --- */

static int put_gone(struct record_writer *w, const struct record_key *k)
{
	struct record r = { .kind = RECORD_GONE, .gone = *k };

	return record_put(&w->line, &r);
}

static int put_node(struct index_log *l, struct engine *s, struct record_writer *w,
		    const struct record_key *k)
{
	struct node n = NODE_INIT;
	int r = engine_get(s, &l->op, k->id, &n);

	if (r == -ESTALE)
		return put_gone(w, k);
	if (r == 0)
		r = record_put_node(&w->line, &n);
	node_release(&n);
	return r;
}

static int put_alias(struct index_log *l, struct engine *s, struct record_writer *w,
		     const struct record_key *k)
{
	struct alias a;
	int n = engine_aliases_all(s, &l->op, k->id - 1, &a, 1);

	if (n < 0)
		return n;
	return n == 1 && a.id == k->id ? record_put_alias(&w->line, &a) : put_gone(w, k);
}

static int put_version(struct index_log *l, struct engine *s, struct record_writer *w,
		       const struct record_key *k)
{
	struct version_list found = { 0 };
	/* The one behind (ino, data - 1). */
	int r = engine_versions_all(s, &l->op, k->more ? k->id : k->id - 1,
				    k->more ? k->more - 1 : UINT64_MAX >> 1, 1, &found);

	if (r == 0)
		r = found.n && found.v[0].ino == k->id && found.v[0].data == k->more
			    ? record_put_version(&w->line, &found.v[0])
			    : put_gone(w, k);
	version_list_release(&found);
	return r;
}

static int put_slices(struct index_log *l, struct engine *s, struct record_writer *w,
		      const struct record_key *k)
{
	struct slices_doc_list found = { 0 };
	int r = engine_slices_all(s, &l->op, k->id, k->more - 1, 1, &found);

	if (r == 0)
		r = found.n && found.v[0].ino == k->id && found.v[0].id == k->more
			    ? record_put_slices(&w->line, &found.v[0])
			    : put_gone(w, k);
	slices_doc_list_release(&found);
	return r;
}

static int put_dropped(struct index_log *l, struct engine *s, struct record_writer *w,
		       const struct record_key *k)
{
	struct dropped_list found = { 0 };
	int r = engine_dropped(s, &l->op, INT64_MAX, k->id - 1, 1, &found);

	if (r == 0)
		r = found.n && found.v[0].id == k->id ? record_put_dropped(&w->line, &found.v[0])
						      : put_gone(w, k);
	dropped_list_release(&found);
	return r;
}

static int put_job(struct index_log *l, struct engine *s, struct record_writer *w, const struct record_key *k)
{
	struct job_record from = { .kind = (enum job_kind)k->id, .key = k->key, .ino = k->more };
	struct job_list found = { 0 };
	int r = engine_jobs_from(s, &l->op, &from, 1, &found);
	const struct job_record *j = found.n ? &found.v[0] : NULL;

	if (r == 0)
		r = j && j->kind == from.kind && j->ino == from.ino &&
				    strcmp(j->key ? j->key : "", k->key ? k->key : "") == 0
			    ? record_put_job(&w->line, j)
			    : put_gone(w, k);
	job_list_release(&found);
	return r;
}

static int put_session(struct index_log *l, struct engine *s, struct record_writer *w,
		       const struct record_key *k)
{
	struct session_list all = { 0 };
	int r = engine_sessions(s, &l->op, &all);
	size_t i = 0;

	while (r == 0 && i < all.n && all.v[i].id != k->id)
		i++;
	if (r == 0)
		r = i < all.n ? record_put_session(&w->line, &all.v[i]) : put_gone(w, k);
	session_list_release(&all);
	return r;
}

static int put_cell(struct index_log *l, struct engine *s, struct record_writer *w, const struct record_key *k)
{
	struct cell_record c;
	int r = engine_cell_get(s, &l->op, k->key, &c);

	if (r == -ENOENT)
		return put_gone(w, k);
	if (r < 0)
		return r;
	r = record_put_cell(&w->line, &c);
	cell_record_release(&c);
	return r;
}

/* The record as it is in the snapshot, or that it is not. */
static int put_key(struct index_log *l, struct engine *s, struct record_writer *w, const struct record_key *k)
{
	switch (k->kind) {
	case RECORD_NODE:
		return put_node(l, s, w, k);
	case RECORD_ALIAS:
		return put_alias(l, s, w, k);
	case RECORD_VERSION:
		return put_version(l, s, w, k);
	case RECORD_SLICES:
		return put_slices(l, s, w, k);
	case RECORD_DROPPED:
		return put_dropped(l, s, w, k);
	case RECORD_JOB:
		return put_job(l, s, w, k);
	case RECORD_CELL:
		return put_cell(l, s, w, k);
	default:
		return put_session(l, s, w, k);
	}
}

/* Those to which the engine gave the number. */
static int put_new_dropped(struct index_log *l, const struct log_cut *cut, struct record_writer *w)
{
	uint64_t after = cut->dropped_from - 1;
	size_t n;
	int r;

	do {
		struct dropped_list page = { 0 };

		r = engine_dropped(cut->snapshot, &l->op, INT64_MAX, after, 256, &page);
		n = page.n;
		for (size_t i = 0; r == 0 && i < page.n; i++) {
			after = page.v[i].id;
			r = record_writer_flush(w, record_put_dropped(&w->line, &page.v[i]));
		}
		dropped_list_release(&page);
	} while (r == 0 && n == 256);
	return r;
}

static int put_records(struct index_log *l, const struct log_cut *cut, struct record_writer *w)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < cut->n; i++) {
		/* It comes with the new ones. */
		if (cut->keys[i].kind == RECORD_DROPPED && cut->keys[i].id >= cut->dropped_from)
			continue;
		r = record_writer_flush(w, put_key(l, cut->snapshot, w, &cut->keys[i]));
	}
	return r < 0 ? r : put_new_dropped(l, cut, w);
}

static struct object_meta meta_of(struct index_log *l)
{
	struct mfs_attr attr = { .ino = INDEX_LOG_INO, .mode = 0400, .mtime = mfs_now_ns() };

	attr.uid = (uint32_t)geteuid();
	attr.gid = (uint32_t)getegid();
	return volume_object_meta(l->v, &attr);
}

static int state_of(struct index_log *l, struct engine *s, int64_t at, struct record_state *ret)
{
	*ret = (struct record_state){ .complete = at,
				      .session = l->v->session,
				      .next_op = atomic_load(&l->v->next_op),
				      .until = l->number };
	return engine_next_number(s, &l->op, &ret->next_ino);
}

static int write_cut(struct index_log *l, const struct log_cut *cut, bool clean)
{
	struct record_header h = { .stream = RECORD_STREAM_CHANGES,
				   .epoch = l->epoch,
				   .number = l->number + 1,
				   .previous = l->previous,
				   .session = l->v->session };
	struct object_meta meta = meta_of(l);
	struct log_output out;
	struct record_state state;
	uint64_t sum = 0, bytes = 0;
	int r = log_output_open(&out, l->v->store, &l->op, &meta, &h);

	if (r < 0)
		return r;
	r = put_records(l, cut, &out.writer);
	if (r == 0)
		r = state_of(l, cut->snapshot, cut->at, &state);
	if (r < 0) {
		log_output_abort(&out);
		return r;
	}
	state.until = h.number;
	state.clean = clean;
	r = log_output_commit(&out, &state, &sum, &bytes);
	if (r < 0)
		return r;
	mfs_crash_point("log.stored");
	l->number = h.number;
	l->previous = sum;
	l->changes_bytes += bytes;
	return 0;
}

static void set_status(struct index_log *l, int error, int64_t complete)
{
	MFS_GUARD(&l->lock);

	l->status.error = error;
	if (complete)
		l->status.complete = complete;
	l->status.working = l->has_snapshot;
	l->status.epoch = l->epoch;
	l->status.number = l->number;
	l->status.bytes = l->changes_bytes;
	l->status.snapshot_bytes = l->snapshot_bytes;
}

/* Until they are stored they are behind as well. */
static void set_writing(struct index_log *l, const struct log_cut *cut)
{
	MFS_GUARD(&l->lock);

	l->writing = cut ? cut->changes : 0;
	l->writing_since = cut ? cut->since : 0;
}

static void begin_epoch(struct index_log *l)
{
	l->epoch++;
	l->number = l->previous = l->snapshot = 0;
	l->has_snapshot = false;
	l->need_snapshot = true;
	l->changes_bytes = l->snapshot_bytes = 0;
}

/* What was changed since the last one. */
static int write_changes(struct index_log *l, bool clean)
{
	struct log_cut cut;
	int r = log_engine_cut(l->v->engine, &l->op, &cut);

	if (r < 0)
		return r;
	if (cut.overflow)
		begin_epoch(l); /* and the cut's state is in the snapshot that comes */
	if (cut.n || clean) {
		set_writing(l, &cut);
		r = write_cut(l, &cut, clean);
		set_writing(l, NULL);
		if (r < 0) {
			log_engine_give_back(l->v->engine, &cut);
			return r;
		}
	}
	l->complete = cut.at;
	set_status(l, 0, cut.at);
	log_cut_release(&cut);
	return 0;
}

/* --- a snapshot --- */

static bool is_stopping(struct index_log *l)
{
	MFS_GUARD(&l->lock);
	return l->stop;
}

static bool take_due(struct index_log *l)
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

struct scan {
	struct index_log *l;
	uint64_t epoch, done;
	int64_t give_up; /* CLOCK_MONOTONIC, once the mount ends */
};

static void rest(struct index_log *l, uint64_t records)
{
	int64_t ns = (int64_t)(records * (uint64_t)MFS_NSEC_PER_SEC / SNAPSHOT_RATE);
	struct timespec until = mfs_ns_to_timespec(mfs_mono_ns() + ns);
	MFS_GUARD(&l->lock);

	while (!l->stop && pthread_cond_timedwait(&l->work, &l->lock.m, &until) == 0)
		;
}

/* Between pages: the changes go on, slowly; at the end of the mount, at full speed, or not at all if there is one. */
static int scanned(void *arg, uint64_t done)
{
	struct scan *s = arg;
	struct index_log *l = s->l;
	uint64_t records = done - s->done;
	int r = 0;

	s->done = done;
	if (is_stopping(l)) {
		if (!s->give_up)
			s->give_up = mfs_mono_ns() + CLOSE_MAX_NS;
		return l->has_snapshot || mfs_mono_ns() > s->give_up ? -ECANCELED : 0;
	}
	if (take_due(l))
		r = write_changes(l, false);
	if (r == 0 && l->epoch != s->epoch)
		return -ESTALE; /* it overflowed: from the beginning */
	rest(l, records);
	return r;
}

/* What the new snapshot makes superfluous. A failure leaves it to the next. */
static void clean_up(struct index_log *l, uint64_t snapshot)
{
	struct log_objects all;
	int r = log_objects_list(l->v->store, &l->op, &all);

	for (size_t i = 0; r == 0 && i < all.n; i++) {
		const struct log_object *o = &all.v[i];
		bool keep = o->epoch == l->epoch &&
			    (o->is_snapshot ? o->number == snapshot : o->number > snapshot);

		if (!keep)
			r = log_object_delete(l->v->store, &l->op, o);
	}
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &l->op,
			"index log: an old part could not be deleted (%s); tried again later", strerror(-r));
	log_objects_release(&all);
}

/* All records but the volume's bounds: it is one page of one kind after another, each as it is at that moment. */
static int write_snapshot(struct index_log *l)
{
	struct record_header h = { .stream = RECORD_STREAM_SNAPSHOT,
				   .epoch = l->epoch,
				   .number = l->number,
				   .session = l->v->session };
	struct scan scan = { .l = l, .epoch = l->epoch };
	uint64_t before = l->changes_bytes, sum = 0, bytes = 0;
	struct object_meta meta = meta_of(l);
	struct record_counts counts;
	struct record_state state;
	struct log_output out;
	int r = log_output_open(&out, l->v->store, &l->op, &meta, &h);

	if (r < 0)
		return r;
	r = record_dump_all(l->v->engine, &l->op, &out.writer, scanned, &scan, &counts);
	if (r == 0)
		r = write_changes(l, false);
	if (r == 0 && l->epoch != scan.epoch)
		r = -ESTALE;
	if (r == 0)
		r = state_of(l, l->v->engine, l->complete, &state);
	if (r < 0) {
		log_output_abort(&out);
		return r;
	}
	r = log_output_commit(&out, &state, &sum, &bytes);
	if (r < 0)
		return r;
	mfs_crash_point("log.snapshot_stored");
	l->has_snapshot = true;
	l->need_snapshot = false;
	l->snapshot = h.number;
	l->snapshot_bytes = bytes;
	l->changes_bytes -= before;
	set_status(l, 0, 0);
	clean_up(l, h.number);
	return 0;
}

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
		begin_epoch(l);
	}
	log_objects_release(&all);
	if (r < 0 && r != -ENOENT && r != -EUCLEAN)
		return r;
	l->opened = true;
	return 0;
}

/* --- the thread --- */

static void complain(struct index_log *l, int r)
{
	int64_t now = mfs_mono_ns();

	set_status(l, r, 0);
	if (l->last_log && now - l->last_log < 60 * MFS_NSEC_PER_SEC)
		return;
	l->last_log = now;
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &l->op,
		"%s: the index log cannot be written (%s): a lost index could be rebuilt only up to its last part; tried again",
		l->v->dir, strerror(-r));
}

static int work_once(struct index_log *l, bool due)
{
	int r = l->opened ? 0 : find_end(l);

	if (r == 0 && due)
		r = write_changes(l, false);
	if (r == 0 && (l->changes_bytes > MFS_MAX(l->snapshot_bytes, SNAPSHOT_MIN) ||
		       l->number - l->snapshot > OBJECTS_MAX))
		l->need_snapshot = true;
	if (r == 0 && l->need_snapshot) {
		r = write_snapshot(l);
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

static void *run(void *arg)
{
	struct index_log *l = arg;
	int64_t not_before = 0;

	while (wait_for_work(l, not_before)) {
		int r = work_once(l, take_due(l));

		not_before = 0;
		if (r < 0) {
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
	l->before = *before;
	pthread_mutex_init(&l->lock.m, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->work, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (with_thread) {
		log_engine_on(v->engine, CHANGES_MAX, wake, l);
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

/* The last part. Of a chain that is broken a tool writes none: the next mount begins a new one. */
static int write_last(struct index_log *l)
{
	bool tool = !l->has_thread;
	int r = l->opened ? 0 : find_end(l);

	if (r < 0 || (tool && !l->has_snapshot))
		return r;
	if (l->need_snapshot && !l->has_snapshot)
		r = write_snapshot(l);
	return r < 0 && r != -ECANCELED && r != -ESTALE ? r : write_changes(l, true);
}

static void stop_thread(struct index_log *l)
{
	if (!l->has_thread)
		return;
	{
		MFS_GUARD(&l->lock);
		l->stop = true;
		pthread_cond_signal(&l->work);
	}
	pthread_join(l->thread, NULL);
	log_engine_on(l->v->engine, 0, NULL, NULL);
}

void index_log_close(struct index_log *l)
{
	int r;

	if (!l)
		return;
	stop_thread(l);
	r = write_last(l);
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
	if (!l->stop)
		stop_thread(l);
	pthread_cond_destroy(&l->work);
	pthread_mutex_destroy(&l->lock.m);
	free(l);
}

void index_log_status(struct index_log *l, struct index_log_status *ret)
{
	uint64_t writing;
	int64_t since;

	log_engine_pending(l->v->engine, &ret->behind, &ret->behind_since);
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
