/*
 * A request carried out: to a healthy node, again elsewhere or later where that may help, inside one deadline.
 *
 * Again: 5xx, 429, 408, connections that fail or are reset, time-outs, answers that are cut off. The pause doubles from
 * 50 ms to 5 s, each time a random part of it. What must not be done twice (q->once) is handed back as S3_UNKNOWN as soon
 * as it may have been done.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "backend/s3_internal.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/op_ctx.h"

#define PAUSE_MIN  (MFS_NSEC_PER_SEC / 20)
#define PAUSE_MAX  (5 * MFS_NSEC_PER_SEC)
#define RELOAD_MIN (5 * MFS_NSEC_PER_SEC)
#define SLOW_NS	   (30 * MFS_NSEC_PER_SEC)

void s3_tries_begin(struct s3_store *s, struct op_ctx *op, struct s3_tries *t)
{
	bool own = !op || !op->deadline_ns;

	*t = (struct s3_tries){
		.deadline_ns = own ? mfs_mono_ns() + s->timeout_ns : op->deadline_ns,
		.own_deadline = own,
		.last = -1,
	};
}

static int is_over(struct op_ctx *op, const struct s3_tries *t)
{
	if (op && atomic_load(&op->cancelled))
		return -ECANCELED;
	if (mfs_mono_ns() >= t->deadline_ns)
		return t->own_deadline ? -EIO : -ETIMEDOUT;
	return 0;
}

int s3_wait(struct s3_store *s, struct op_ctx *op, struct s3_tries *t)
{
	int64_t most = MFS_MIN(PAUSE_MIN << MFS_MIN(t->n, 10u), PAUSE_MAX), until;
	uint64_t dice = mfs_hash_u64(atomic_fetch_add(&s->seed, 1));
	int r;

	t->n++;
	/* The first failure of a node that has others beside it costs no pause. */
	if (t->n == 1 && s3_endpoints_count(s->nodes) > 1)
		most = 0;
	until = mfs_mono_ns() + most / 4 + (most ? (int64_t)(dice % (uint64_t)most) * 3 / 4 : 0);
	if (until >= t->deadline_ns) /* no use in waiting for nothing */
		return t->own_deadline ? -EIO : -ETIMEDOUT;
	while ((r = is_over(op, t)) == 0 && mfs_mono_ns() < until) {
		struct timespec ts = mfs_ns_to_timespec(MFS_MIN(until - mfs_mono_ns(), MFS_NSEC_PER_SEC / 10));

		if (ts.tv_sec >= 0)
			nanosleep(&ts, NULL);
	}
	return r;
}

/* From a file or the environment that may have changed. Did it? */
static bool reload_keys(struct s3_store *s, struct s3_tries *t)
{
	struct s3_credentials fresh;
	MFS_AUTOFREE char *reason = NULL;
	bool changed;
	int64_t now = mfs_mono_ns();

	if (t->reloaded)
		return false;
	t->reloaded = true;
	if (s3_credentials_load(&s->from, &fresh, &reason) < 0)
		return false;
	{
		MFS_GUARD(&s->lock);
		changed = strcmp(fresh.access_key, s->credentials.access_key) != 0 ||
			  strcmp(fresh.secret_key, s->credentials.secret_key) != 0 || now - s->loaded_ns < RELOAD_MIN;
		s3_credentials_release(&s->credentials);
		s->credentials = fresh;
		s->loaded_ns = now;
	}
	return changed;
}

/* The server's clock counts for signatures. */
static bool adopt_clock(struct s3_store *s, struct s3_tries *t, const struct s3_reply *reply)
{
	if (t->fixed_clock || !reply->date)
		return false;
	t->fixed_clock = true;
	atomic_store(&s->clock_ns, reply->date - mfs_now_ns());
	mfs_log(MFS_LOG_STORE, MFS_LOG_WARN, NULL,
		"s3: the server's clock differs from ours by %" PRId64 " s; signing with its time. Set the clocks (NTP)",
		(reply->date - mfs_now_ns()) / MFS_NSEC_PER_SEC);
	return true;
}

static void tell(const struct s3_store *s, struct op_ctx *op, const struct s3_request *q, const struct s3_reply *reply,
		 int err)
{
	const char *more = err == -EACCES ? "; check the credentials and their policy"
			   : !strcmp(reply->code, "NoSuchBucket") ? "; the bucket is gone"
								  : "";

	mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op, "s3 %s bucket=%s key=%s: %s%s", q->method, q->bucket ? q->bucket : s->bucket,
		q->key ? q->key : "-", reply->reason, more);
}

static int give_up(const struct s3_store *s, struct op_ctx *op, const struct s3_request *q, const struct s3_tries *t,
		   const struct s3_reply *reply, int r)
{
	if (r == -ETIMEDOUT || r == -EIO)
		mfs_log(MFS_LOG_STORE, MFS_LOG_ERR, op,
			"s3 %s bucket=%s key=%s: no success before the deadline, after %u attempts; the last: %s; are the "
			"servers up?",
			q->method, q->bucket ? q->bucket : s->bucket, q->key ? q->key : "-", t->n, reply->reason);
	return r;
}

static bool is_quiet(int err)
{
	return err == -ENOENT || err == -EEXIST || err == -ERANGE || err == -ENODATA || err == -EOPNOTSUPP;
}

/* What the attempt tells of its node. */
static enum s3_outcome outcome_of(struct s3_store *s, const struct s3_reply *reply, int64_t took)
{
	switch (-reply->err) {
	case 0:
		return S3_ANSWERED;
	case ECANCELED:
	case ENOMEM:
	case EBADMSG:
		return S3_NEITHER;
	case ETIMEDOUT: /* a short deadline of ours is not the node's fault */
		return reply->gave_up || took < MFS_MIN(s->request_ns, MFS_NSEC_PER_SEC) ? S3_NEITHER : S3_SILENT;
	default:
		return S3_BROKEN;
	}
}

/* One attempt somewhere. */
static void try_once(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const struct s3_request *q,
		     struct s3_reply *reply)
{
	unsigned int node = s3_endpoints_take(s->nodes, t->last);
	int64_t began = mfs_mono_ns(), allow = s3_allowance(s, q, t->timed_out > 0);
	enum s3_outcome outcome;

	s3_attempt(s, op, q, node, MFS_MIN(t->deadline_ns, began + allow),
		   q->heavy || allow > s->request_ns ? allow : s->request_ns, reply);
	outcome = outcome_of(s, reply, mfs_mono_ns() - began);
	/* Not one node's fault: two were silent, or one that lives took that long. */
	if ((outcome == S3_SILENT && t->timed_out++ > 0) || (outcome == S3_ANSWERED && mfs_mono_ns() - began > s->request_ns &&
							     !q->heavy && q->body_len + q->dest_len < MFS_MIB))
		atomic_store(&s->slow_until_ns, mfs_mono_ns() + SLOW_NS);
	s3_endpoints_done(s->nodes, node, outcome, mfs_mono_ns() - began, reply->reason);
	t->last = (int)node;
	if (!reply->err && !strcmp(reply->server, "MinIO"))
		atomic_store(&s->is_minio, true);
	if (!reply->err && (reply->status < 200 || reply->status > 299))
		s3_read_error(reply);
}

static bool is_cut_off(const struct s3_request *q, struct s3_reply *reply)
{
	if (q->dest || !strcmp(q->method, "HEAD") || !reply->has_length || reply->body.len == reply->length)
		return false;
	strcpy(reply->reason, "the answer is cut off");
	return true;
}

/* Copy and complete answer 200 before they know how it ends. */
static bool is_success(const struct s3_request *q, struct s3_reply *reply)
{
	if (reply->status < 200 || reply->status > 299 || is_cut_off(q, reply))
		return false;
	return !q->may_fail_late || !s3_is_error_body(reply);
}

int s3_run(struct s3_store *s, struct op_ctx *op, struct s3_tries *t, const struct s3_request *q, struct s3_reply *reply)
{
	int r;

	while ((r = is_over(op, t)) == 0) {
		enum s3_class class = S3_AGAIN;
		bool maybe_done;

		try_once(s, op, t, q, reply);
		if (reply->err == -ECANCELED || reply->err == -ENOMEM)
			return reply->err;
		if (reply->err == -EPROTO && t->n + 1 >= s3_endpoints_count(s->nodes)) {
			tell(s, op, q, reply, -EIO);
			return -EIO;
		}
		if (!reply->err && is_success(q, reply))
			return 0;
		if (!reply->err)
			class = s3_classify(reply->status, reply->code, &r);
		if (class == S3_KEYS && reload_keys(s, t))
			continue;
		if (class == S3_CLOCK && adopt_clock(s, t, reply))
			continue;
		if (class != S3_AGAIN) {
			if (!is_quiet(r) && !q->quiet)
				tell(s, op, q, reply, r);
			return r;
		}
		mfs_debug(MFS_LOG_STORE, op, "s3 %s key=%s attempt=%u: %s", q->method, q->key ? q->key : "-", t->n,
			  reply->reason);
		/* 429 says that it was not done; so does a mismatch of the checksum. */
		maybe_done = reply->err ? reply->sent
					: reply->status < 300 || reply->status >= 500;
		if (q->once && maybe_done)
			return S3_UNKNOWN;
		r = s3_wait(s, op, t);
		if (r < 0)
			break;
	}
	return give_up(s, op, q, t, reply, r);
}

int s3_run_simple(struct s3_store *s, struct op_ctx *op, const struct s3_request *q, struct s3_reply *reply)
{
	struct s3_tries t;

	s3_tries_begin(s, op, &t);
	return s3_run(s, op, &t, q, reply);
}
