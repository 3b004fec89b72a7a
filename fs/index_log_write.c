/*
 * The objects of the index log: what was changed since the last one, and all there is.
 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/log.h"
#include "fs/index_log_writer.h"
#include "meta/record_dump.h"

#define SNAPSHOT_RATE 20000 /* records a second, in the background */
#define CLOSE_MAX_NS  (120 * MFS_NSEC_PER_SEC) /* for a first snapshot at the unmount */

static struct object_meta meta_of(struct index_log *l)
{
	struct mfs_attr attr = { .ino = INDEX_LOG_INO, .mode = 0400, .mtime = mfs_now_ns() };

	attr.uid = (uint32_t)geteuid();
	attr.gid = (uint32_t)getegid();
	return volume_object_meta(l->v, &attr);
}

static int state_of(struct index_log *l, struct engine *s, int64_t at, struct record_state *ret)
{
	int r;

	*ret = (struct record_state){ .complete = at, .until = l->number };
	if (!l->shared) { /* of several sessions no number divides what is older from what is younger */
		ret->session = l->v->session;
		ret->next_op = atomic_load(&l->v->next_op);
	} else {
		ret->until_sum = l->previous;
	}
	r = engine_next_number(s, &l->op, &ret->next_ino);
	l->next_number = ret->next_ino;
	return r;
}

static int write_cut(struct index_log *l, const struct log_cut *cut, bool clean)
{
	struct record_header h = { .stream = RECORD_STREAM_CHANGES,
				   .epoch = l->epoch,
				   .number = l->number + 1,
				   .term = l->term,
				   .previous = l->previous,
				   .session = l->v->session };
	struct object_meta meta = meta_of(l);
	struct log_output out;
	struct record_state state;
	uint64_t sum = 0, bytes = 0;
	int r = log_output_open(&out, l->v->store, &l->op, &meta, &h);

	if (r < 0)
		return r;
	r = index_log_put_records(l, cut, &out.writer);
	if (r == 0)
		r = state_of(l, cut->snapshot, cut->at, &state);
	if (r < 0) {
		log_output_abort(&out);
		return r;
	}
	state.until = h.number;
	state.until_sum = 0;
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

void index_log_set_status(struct index_log *l, int error, int64_t complete)
{
	MFS_GUARD(&l->lock);

	l->status.error = error;
	if (complete)
		l->status.complete = complete;
	l->status.working = l->has_snapshot;
	l->status.elsewhere = false;
	l->status.epoch = l->epoch;
	l->status.number = l->number;
	l->status.bytes = l->changes_bytes;
	l->status.snapshot_bytes = l->snapshot_bytes;
}

/* Until they are stored they are behind as well. */
static void set_writing(struct index_log *l, const struct log_cut *cut)
{
	MFS_GUARD(&l->lock);

	/* With several mounts they are among those that are pending until then. */
	l->writing = cut && !l->shared ? cut->changes : 0;
	l->writing_since = cut && !l->shared ? cut->since : 0;
}

void index_log_begin_epoch(struct index_log *l)
{
	l->epoch++;
	l->number = l->previous = l->snapshot = 0;
	l->has_snapshot = false;
	l->need_snapshot = true;
	l->changes_bytes = l->snapshot_bytes = 0;
}

/* Nothing was changed, up to when the news channel was last known to work. */
static void nothing_new(struct index_log *l)
{
	int64_t beat = engine_last_beat(l->v->logged);

	if (beat == 0)
		return;
	l->complete = mfs_now_ns() - MFS_MAX(mfs_mono_ns() - beat, INT64_C(0));
	index_log_set_status(l, 0, l->complete);
}

static int store_cut(struct index_log *l, const struct log_cut *cut, bool clean)
{
	int r;

	set_writing(l, cut);
	r = write_cut(l, cut, clean);
	set_writing(l, NULL);
	return r == 0 && l->shared ? index_log_shared_stored(l, clean) : r;
}

static bool is_pending(struct index_log *l)
{
	uint64_t changes;
	int64_t since;

	log_engine_pending(l->v->logged, &changes, &since);
	return changes;
}

/* What was changed since the last one. */
int index_log_write_changes(struct index_log *l, enum log_cut_kind kind)
{
	bool clean = kind == LOG_CUT_LAST;
	struct log_cut cut;
	int r;

	if (l->shared && kind == LOG_CUT_DUE && !is_pending(l)) {
		nothing_new(l);
		return 0;
	}
	r = l->shared ? index_log_shared_begins(l) : 0;
	if (r == 0)
		r = log_engine_cut(l->v->logged, &l->op, &cut);
	if (r < 0)
		return r;
	if (cut.overflow && l->shared) {
		log_cut_release(&cut);
		return index_log_shared_new_epoch(l);
	}
	if (cut.overflow)
		index_log_begin_epoch(l); /* and the cut's state is in the snapshot that comes */
	r = cut.n || clean ? store_cut(l, &cut, clean) : 0;
	if (r < 0) {
		log_engine_give_back(l->v->logged, &cut);
		return r;
	}
	l->complete = cut.at;
	index_log_set_status(l, 0, cut.at);
	log_cut_release(&cut);
	return 0;
}

/* --- a snapshot --- */

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
	if (index_log_is_stopping(l)) {
		if (!s->give_up)
			s->give_up = mfs_mono_ns() + CLOSE_MAX_NS;
		return l->has_snapshot || mfs_mono_ns() > s->give_up ? -ECANCELED : 0;
	}
	if (index_log_take_due(l))
		r = index_log_write_changes(l, LOG_CUT_DUE);
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
		/* Not what is newer: another mount may have written it meanwhile. */
		bool old = o->epoch < l->epoch ||
			   (o->epoch == l->epoch && (o->is_snapshot ? o->number < snapshot : o->number <= snapshot));

		if (old)
			r = log_object_delete(l->v->store, &l->op, o);
	}
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &l->op,
			"index log: an old part could not be deleted (%s); tried again later", strerror(-r));
	log_objects_release(&all);
}

/* All records but the volume's bounds: it is one page of one kind after another, each as it is at that moment. */
int index_log_write_snapshot(struct index_log *l)
{
	struct record_header h = { .stream = RECORD_STREAM_SNAPSHOT,
				   .epoch = l->epoch,
				   .number = l->number,
				   .term = l->term,
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
	r = record_dump_all(l->v->logged, &l->op, &out.writer, scanned, &scan, &counts);
	if (r == 0)
		r = index_log_write_changes(l, LOG_CUT_ALL);
	if (r == 0 && l->epoch != scan.epoch)
		r = -ESTALE;
	if (r == 0)
		r = state_of(l, l->v->logged, l->complete, &state);
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
	l->snapshot_term = h.term;
	l->snapshot_bytes = bytes;
	l->changes_bytes -= before;
	if (l->shared) {
		r = index_log_shared_has_snapshot(l);
		if (r < 0)
			return r;
	}
	index_log_set_status(l, 0, 0);
	clean_up(l, h.number);
	return 0;
}
