/*
 * One open file's bytes: life cycle, writes into memory. Reads are in content_read.c, truncation and punching in
 * content_truncate.c, committed states in content_state.c, the commit in content_commit.c, a new file's way to the store in
 * content_upload.c, what all files of a mount share in content_env.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/workers.h"
#include "fs/content_internal.h"

#define WAIT_MS	    50
#define STUCK_NS    (120 * MFS_NSEC_PER_SEC) /* a write that gets no memory for so long fails */
#define APPEND_WHOLE MFS_MIB /* an append up to this is in one commit */

void content_enter_locked(struct content *c)
{
	while (c->busy)
		pthread_cond_wait(&c->changed, &c->lock.m);
	c->busy = true;
}

void content_leave_locked(struct content *c)
{
	c->busy = false;
	pthread_cond_broadcast(&c->changed);
}

void content_adopt_locked(struct content *c, struct state *s)
{
	if (!c->state || c->state->data != s->data)
		c->own_from = s->data;
	state_put(c->state);
	c->state = s;
	c->size = s->size;
	c->clip = CONTENT_ALL;
	c->stale = c->reloads != c->seen; /* one came while the record was being read: s may be from before */
	c->tail.own_from = s->layout.log_end;
	c->gen++;
}

int content_refresh(struct content *c, struct op_ctx *op)
{
	struct state *s;
	int r;

	{
		MFS_GUARD(&c->lock);

		if (!c->stale || content_holds_locked(c))
			return 0;
		c->seen = c->reloads;
	}
	r = state_load(c->env, op, c->ino, c->state, &s);
	if (r < 0)
		return r;
	MFS_GUARD(&c->lock);
	if (content_holds_locked(c)) { /* a write came meanwhile, on top of the old state: the commit will see that it moved */
		state_put(s);
		return 0;
	}
	if (s->data != c->state->data)
		c->dirty = false; /* empty, and written by another mount since */
	content_adopt_locked(c, s);
	return 0;
}

void content_touch_locked(struct content *c)
{
	int64_t now = mfs_mono_ns();

	if (!c->dirty) {
		c->dirty_since = now;
		content_session_now(c);
	}
	c->dirty = true;
	c->closed = c->refused = false;
	c->written = now;
	c->mtime = mfs_now_ns();
}

/* made: the record, where it is known. */
static int open_content(const struct content_env *cenv, struct op_ctx *op, mfs_ino_t ino, const struct node *made, struct content **ret)
{
	/* The list of contents is the environment's own state behind its lock. */
	struct content_env *env = (struct content_env *)(uintptr_t)cenv;
	struct content *c = calloc(1, sizeof(*c));
	struct state *s;
	int r;

	if (!c)
		return -ENOMEM;
	r = namespace_content_rules(env->vol->ns, op, ino, &c->rules);
	if (r == 0)
		r = made ? state_of_node(env, op, made, NULL, &s) : state_load(env, op, ino, NULL, &s);
	if (r < 0) {
		free(c);
		return r;
	}
	c->env = env;
	c->ino = ino;
	c->upload_key = (struct mfs_buf)MFS_BUF_INIT(CONTENT_PATH_MAX);
	c->append_from = c->frozen_append = CONTENT_ALL;
	pthread_mutex_init(&c->lock.m, NULL);
	pthread_cond_init(&c->changed, NULL);
	{
		MFS_GUARD(&c->lock);

		content_adopt_locked(c, s);
	}
	MFS_GUARD(&env->lock);
	c->next = env->first;
	c->prevp = &env->first;
	if (c->next)
		c->next->prevp = &c->next;
	env->first = c;
	*ret = c;
	return 0;
}

int content_open(const struct content_env *env, struct op_ctx *op, mfs_ino_t ino, struct content **ret)
{
	return open_content(env, op, ino, NULL, ret);
}

int content_open_made(const struct content_env *env, struct op_ctx *op, const struct node *n, struct content **ret)
{
	return open_content(env, op, n->attr.ino, n, ret);
}

void content_discard(struct content *c, struct op_ctx *op)
{
	upload_wait(c);
	upload_drop(c, op);
	MFS_GUARD(&c->lock);

	dirty_release(&c->map, c->env->budget);
	for (size_t i = 0; i < c->n_sending; i++)
		extent_free(c->env->budget, c->sending[i]);
	c->n_sending = 0;
	ranges_release(&c->holes);
	ranges_release(&c->frozen);
	c->append_from = c->frozen_append = CONTENT_ALL;
	c->clip = CONTENT_ALL;
	c->size = c->state->size;
	c->unsure_data = 0;
	c->dirty = c->rewrite = c->refused = false;
	c->mtime = 0;
	c->stale = true;
	c->gen++;
}

void content_free(struct content *c)
{
	if (!c)
		return;
	{
		MFS_GUARD(&c->env->lock);

		if (c->prevp) /* neighbours on the list move it */
			*c->prevp = c->next;
		if (c->next)
			c->next->prevp = c->prevp;
	}
	{
		/* A thread that makes room took this one off the list before we did: let it finish. */
		MFS_GUARD(&c->lock);

		while (c->compacting)
			pthread_cond_wait(&c->changed, &c->lock.m);
		content_enter_locked(c);
	}
	read_ahead_end(c);
	if (c->dirty || c->upload || c->n_sending) {
		if (c->dirty)
			mfs_log(MFS_LOG_FS, MFS_LOG_ERR, NULL,
				"inode %" PRIu64 ": %" PRIu64 " bytes could not be stored (%s) and are given up at the last close; the "
				"content before stays, and the error went to close()",
				c->ino, c->size, strerror(c->last_error ? -c->last_error : EIO));
		content_discard(c, NULL);
	}
	dirty_release(&c->map, c->env->budget); /* empty, but it keeps its array */
	tail_drop(c);
	blob_forget(c->env, c->state->layout.segments, c->state->layout.n_segments);
	state_put(c->state);
	ranges_release(&c->holes);
	free(c->sending);
	mfs_buf_release(&c->upload_key);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock.m);
	free(c);
}

void content_writer_opened(struct content *c)
{
	MFS_GUARD(&c->lock);

	if (c->n_writers++ == 0 || c->closed) {
		c->version_due = true;
		c->accepted = c->state->data;
		c->accepted_empty = c->state->size == 0;
	}
	/* A file that was made and never written gets its (empty) object after the first close. */
	if (!c->state->object && c->size == 0 && !c->state->todo && !c->dirty) {
		c->dirty = true;
		c->dirty_since = c->written = mfs_mono_ns();
		content_session_now(c);
	}
}

bool content_writer_closed(struct content *c)
{
	bool give_up = false;

	{
		MFS_GUARD(&c->lock);

		assert(c->n_writers > 0);
		if (--c->n_writers == 0 && c->failed) {
			content_enter_locked(c);
			give_up = true;
		}
		if (!give_up)
			return c->n_writers == 0 && c->dirty;
	}
	content_discard(c, NULL); /* the failure went to each flush; whoever opens next finds the last good state */
	MFS_GUARD(&c->lock);

	c->failed = 0;
	content_leave_locked(c);
	return false;
}

bool content_writer_leaves(struct content *c)
{
	MFS_GUARD(&c->lock);

	if (c->n_writers < 2)
		return false;
	c->n_writers--;
	return true;
}

/* The idle file that holds most dirty memory, made busy; NULL: none. On the list means not freed: content_free() takes
 * env->lock to leave it, and then waits for busy. What idle files keep of their patches goes on the way. */
static struct content *take_biggest(struct content_env *env)
{
	struct content *big = NULL;
	uint64_t most = 0;
	MFS_GUARD(&env->lock);

	for (struct content *i = env->first; i; i = i->next) {
		MFS_GUARD(&i->lock);

		if (i->busy)
			continue;
		tail_drop(i);
		read_ahead_drop_locked(i);
		if (!i->failed && !i->refused && i->map.bytes > most) {
			most = i->map.bytes;
			big = i;
		}
	}
	if (big) {
		MFS_GUARD(&big->lock);

		if (big->busy)
			return NULL;
		big->busy = true;
	}
	return big;
}

/* Send, or commit, what is dirty. The caller is busy. */
static int push_out(struct content *c, struct op_ctx *op)
{
	bool streams;
	int r;

	{
		MFS_GUARD(&c->lock);

		streams = c->upload || (upload_suits_locked(c) && (content_sparse(c) || upload_wanted_locked(c)));
	}
	if (!streams)
		return content_commit(c, op, NULL, NULL);
	r = upload_stage(c, op);
	if (r == -ENOMEM) /* not even for the bytes that were in the index: a commit needs none of the budget */
		return content_commit(c, op, NULL, NULL);
	if (r == 0)
		r = upload_send(c, true);
	if (r < 0 || content_sparse(c))
		return r;
	{
		MFS_GUARD(&c->lock);

		if (c->n_sending) /* memory comes back by these */
			return 0;
	}
	return content_commit(c, op, NULL, NULL);
}

/* Let others give memory back: this content first, then whichever holds most. No lock held. */
static int make_room(struct content *c, struct op_ctx *op)
{
	struct content_env *env = c->env;
	struct content *big;
	bool send = false;
	int r;

	{
		MFS_GUARD(&c->lock);

		if (!c->busy) {
			tail_drop(c);
			read_ahead_drop_locked(c);
			send = c->map.bytes > 0 && !c->refused;
			c->busy = send;
		}
	}
	if (send) {
		r = push_out(c, op);
		MFS_GUARD(&c->lock);

		content_leave_locked(c);
		return r;
	}
	r = budget_wait(env->budget, OBJECT_PART_MIN, WAIT_MS);
	if (r == 0) {
		budget_put(env->budget, OBJECT_PART_MIN);
		return 0;
	}
	/* Nobody else moves: push out the biggest idle file. Its busy flag keeps it from being freed under us. */
	big = take_biggest(env);
	if (!big)
		return 0;
	r = push_out(big, op);
	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " making room failed: %s", big->ino, strerror(-r));
	MFS_GUARD(&big->lock);
	content_leave_locked(big);
	return 0; /* its failure is its own writers' to hear */
}

/* The same, for a write that has waited since *since (0: it has not). Memory may be held by a file that cannot be stored. */
static int wait_for_memory(struct content *c, struct op_ctx *op, int64_t *since)
{
	int64_t now = mfs_mono_ns();

	*since = *since ? *since : now;
	if (atomic_load(&op->cancelled))
		return -ECANCELED;
	if (now - *since < STUCK_NS)
		return make_room(c, op);
	mfs_log(MFS_LOG_FS, MFS_LOG_ERR, op,
		"inode %" PRIu64 ": a write found no memory for %d s, as what other files have written cannot be stored: the answer is "
		"EIO; see the messages before, and memory=",
		c->ino, (int)(STUCK_NS / MFS_NSEC_PER_SEC));
	return -EIO;
}

int content_commit_first(struct content *c, struct op_ctx *op)
{
	int r;

	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	r = c->dirty ? content_commit(c, op, NULL, NULL) : 0;
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}

/*
 * Appended bytes may move at the commit (content_commit.c): what was written plainly beyond the end, or right up to it, or
 * reaches over their beginning or end, must not be in one commit (or one extent) with them. What lies within them moves
 * along. Of no matter where nobody else can commit.
 */
static bool must_part_locked(const struct content *c, uint64_t off, size_t len, bool append)
{
	if (c->env->vol->engine->ops->caps & ENGINE_SINGLE_MOUNT)
		return false;
	if (append)
		return c->append_from == CONTENT_ALL && c->dirty && !c->rewrite &&
		       (c->size > content_committed_locked(c) || dirty_ends_at(&c->map, off));
	return c->append_from != CONTENT_ALL && (off + len > c->size || (off < c->append_from && off + len >= c->append_from));
}

/* Up to len bytes into the map: how many; -errno. */
static ssize_t put_locked(struct content *c, uint64_t off, const void *buf, size_t len, bool append)
{
	size_t n;

	if (c->failed)
		return c->failed;
	if (ranges_reserve(&c->holes) < 0)
		return -ENOMEM;
	n = dirty_write(&c->map, c->env->budget, off, buf, len);
	if (append && n < len && len <= APPEND_WHOLE) { /* a commit between would part it */
		dirty_clip(&c->map, c->env->budget, off);
		n = 0;
	}
	if (n == 0)
		return 0;
	ranges_cut(&c->holes, off, n);
	if (append && c->append_from == CONTENT_ALL)
		c->append_from = off;
	content_touch_locked(c);
	c->size = MFS_MAX(c->size, off + n);
	return (ssize_t)n;
}

int content_write_fresh(struct content *c, struct op_ctx *op)
{
	int r = 0;

	{
		MFS_GUARD(&c->lock);

		if (!c->stale || content_holds_locked(c))
			return 0;
		content_enter_locked(c);
	}
	r = content_refresh(c, op);
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
	return r;
}

/* Enough is dirty: on its way while the application goes on. The caller is busy. */
static void send_some(struct content *c, struct op_ctx *op)
{
	bool streams;
	int r;

	{
		MFS_GUARD(&c->lock);

		streams = c->upload || upload_suits_locked(c);
	}
	r = streams ? upload_stage(c, op) : content_commit(c, op, NULL, NULL);
	if (r == 0 && streams)
		r = upload_send(c, false);
	/* The bytes are safe in memory: whether they can be stored is the flush's to say. */
	if (r < 0)
		mfs_debug(MFS_LOG_FS, op, "inode=%" PRIu64 " sending ahead: %s", c->ino, strerror(-r));
	MFS_GUARD(&c->lock);
	content_leave_locked(c);
}

bool content_has_limit(const struct content *c)
{
	return c->rules.size_max < (uint64_t)MFS_FILE_SIZE_MAX;
}

int content_write(struct content *c, struct op_ctx *op, uint64_t off, const void *buf, size_t len, bool append)
{
	int64_t stuck = 0;
	size_t done = 0;
	int r = content_write_fresh(c, op);

	if (r < 0)
		return r;
	while (done < len) {
		bool want = false, part = false;
		ssize_t n = 0;

		{
			MFS_GUARD(&c->lock);

			if (append && done == 0)
				off = c->size;
			if (off + len > c->rules.size_max || off + len < off)
				return -EFBIG;
			if (c->rules.at_close)
				c->writer = op->uid;
			part = must_part_locked(c, off + done, len - done, append && done == 0);
			if (!part) {
				n = put_locked(c, off + done, (const char *)buf + done, len - done, append);
				if (n < 0)
					return (int)n;
				done += (size_t)n;
				stuck = n ? 0 : stuck;
				want = done == len && !c->busy && upload_wanted_locked(c);
				if (want)
					c->busy = true;
			}
		}
		if (part)
			r = content_commit_first(c, op);
		else if (want)
			send_some(c, op);
		else if (done < len)
			r = wait_for_memory(c, op, &stuck);
		if (r < 0)
			return r;
	}
	return 0;
}

int content_flush(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed)
{
	int r = 0;

	if (ret_committed)
		*ret_committed = false;
	{
		MFS_GUARD(&c->lock);

		if (!c->dirty && !c->busy && !c->failed)
			return 0;
		content_enter_locked(c);
		if (c->failed)
			r = c->failed;
		else if (!c->dirty)
			r = 1; /* somebody else's commit took ours along */
	}
	if (r == 0)
		r = content_commit(c, op, attr, ret_committed);
	{
		MFS_GUARD(&c->lock);

		content_leave_locked(c);
	}
	if (r == 0)
		content_compact_later(c);
	return r > 0 ? 0 : r;
}

void content_closed(struct content *c)
{
	MFS_GUARD(&c->lock);

	if (!c->dirty && !c->failed)
		c->closed = true;
}

void content_give_up(struct content *c, struct op_ctx *op, int err)
{
	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
	}
	content_discard(c, op);
	MFS_GUARD(&c->lock);
	c->failed = 0;
	c->losses++;
	c->loss = err;
	content_leave_locked(c);
}

unsigned int content_losses(struct content *c)
{
	MFS_GUARD(&c->lock);

	return c->losses;
}

int content_lost(struct content *c, unsigned int losses)
{
	MFS_GUARD(&c->lock);

	return c->losses == losses ? 0 : c->loss;
}

void content_lock_lost(struct content *c)
{
	MFS_GUARD(&c->lock);

	if (!c->failed && c->n_writers > 0)
		c->failed = -EIO;
	pthread_cond_broadcast(&c->changed);
}

void content_overlay(struct content *c, struct mfs_attr *attr)
{
	MFS_GUARD(&c->lock);

	/* Committed without a request that could have told it (commit=, memory that ran out). */
	if (c->state->attr.ver > attr->ver && !c->stale)
		*attr = c->state->attr;
	if (!c->dirty)
		return;
	attr->size = c->size;
	if (c->mtime) {
		attr->mtime = c->mtime;
		attr->ctime = MFS_MAX(attr->ctime, c->mtime);
	}
	if (c->rewrite)
		attr->alloc = 0;
	attr->alloc = MFS_MIN(attr->alloc + c->map.bytes + (c->upload ? c->size : 0), c->size + 4095);
}

void content_mtime_is_set(struct content *c)
{
	MFS_GUARD(&c->lock);

	content_enter_locked(c); /* a commit under way has its own mtime with it */
	c->mtime = 0;
	content_leave_locked(c);
}

bool content_is_dirty(struct content *c)
{
	MFS_GUARD(&c->lock);

	return c->dirty;
}

void content_news(struct content *c, uint64_t data, uint64_t lay)
{
	MFS_GUARD(&c->lock);

	if (data <= c->state->data && lay <= c->state->lay)
		return;
	c->stale = true;
	c->reloads++;
	c->gen++;
}

uint64_t content_pages(struct content *c, uint64_t pages)
{
	MFS_GUARD(&c->lock);

	return pages >= c->own_from && pages < c->state->data ? c->state->data : pages;
}

void content_reload(struct content *c)
{
	MFS_GUARD(&c->lock);

	c->stale = true;
	c->reloads++;
	c->gen++;
}
