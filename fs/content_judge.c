/*
 * A close where storage rules demand something of the content: a least size, a type.
 *
 * What is about to be committed is looked at when it is stored and before the record names it; refused, the record never
 * does. Where parts of it had to be committed before (an fsync, memory that ran out, a lock given back), all of it is, and then
 * what the record has is looked at: refused, it gets back what it had when the first of these writers opened it.
 *
 * Only closes judge. Whoever has the file open by a duplicate of the descriptor (a shell's redirection of several commands)
 * may write on after a refusal: the bytes stay, and the next close looks again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/crash_point.h"
#include "common/str.h"
#include "fs/content_internal.h"

#define TRIES_MAX 32

bool content_is_judged(const struct content *c)
{
	return c->rules.at_close;
}

bool content_is_refused(struct content *c)
{
	MFS_GUARD(&c->lock);

	return c->refused;
}

static int type_of(struct content *c, struct op_ctx *op, struct state *s, char mime[static MIME_MAX])
{
	size_t len = (size_t)MFS_MIN(s->size, MIME_HEAD);
	MFS_AUTOFREE unsigned char *head = malloc(len + 1);
	int r = head ? state_read(c->env, op, c->ino, s, 0, head, len) : -ENOMEM;

	if (r == 0)
		mime_of(&c->env->vol->mime, head, len, mime);
	return r;
}

/* mime: "" if it was not looked at yet. */
static int look(struct content *c, struct op_ctx *op, struct state *s, const char *mime, struct judgement *ret)
{
	struct namespace *ns = c->env->vol->ns;
	char own[MIME_MAX] = "";
	int r;

	*ret = (struct judgement){ 0 };
	if (s->size == 0 && c->accepted_empty) /* it was made, and nobody has put anything in it */
		return 0;
	r = namespace_judge(ns, op, c->ino, s->size, mime[0] ? mime : NULL, ret);
	if (r < 0 || !ret->ask_type)
		return r;
	r = type_of(c, op, s, own);
	return r < 0 ? r : namespace_judge(ns, op, c->ino, s->size, own, ret);
}

static uid_t whose(struct content *c, const struct op_ctx *op)
{
	MFS_GUARD(&c->lock);

	return c->writer ? c->writer : op->uid;
}

/* The counter `data` of what was there before these writers' commits; since, only we have moved it. */
static uint64_t before_locked(const struct content *c)
{
	return MFS_MAX(c->accepted, c->own_from);
}

int content_judge(struct content *c, struct op_ctx *op, struct state *next, const struct commit *cm)
{
	struct judgement j;
	struct content_refusal f = { .ino = c->ino, .lay = cm->lay, .session = cm->session, .uid = whose(c, op), .why = &j, .content = cm };
	struct mfs_attr attr;
	int r = look(c, op, next, cm->mime ? cm->mime : "", &j);

	if (r < 0 || !j.kind)
		return r;
	mfs_crash_point("refuse.judged");
	r = namespace_refuse(c->env->vol->ns, op, &f, &attr);
	if (r == -ESTALE) /* removed: no rules hold, and the commit will say what becomes of it */
		return 0;
	if (r == 0)
		mfs_crash_point("refuse.kept");
	return r < 0 ? (r == -EINVAL ? -EIO : r) : -EINVAL;
}

/* --- what was committed before the close --- */

/* What the record had before these writers' commits: *ret of version_list, NULL: nothing. -ENODATA: it is not kept. */
static int find_earlier(struct content *c, struct op_ctx *op, uint64_t data, struct version_list *l, const struct version_record **ret)
{
	int r;

	*ret = NULL;
	{
		MFS_GUARD(&c->lock);

		if (data == c->accepted && c->accepted_empty)
			return 0;
	}
	r = engine_versions_by_ino(c->env->vol->engine, op, c->ino, l);
	for (size_t i = 0; r == 0 && i < l->n && !*ret; i++)
		*ret = l->v[i].data == data ? &l->v[i] : NULL;
	return r < 0 ? r : *ret ? 0 : -ENODATA;
}

static int go_back(struct content *c, struct op_ctx *op, uint64_t to, const struct judgement *j, struct mfs_attr *attr)
{
	struct content_refusal f = { .ino = c->ino, .lay = c->state->lay, .session = c->env->vol->session, .uid = whose(c, op), .why = j, .back = true };
	struct volume *v = c->env->vol;
	struct version_list l = { 0 };
	int r;

	past_turn_take(&v->past); /* from seeing that the version is kept to the record that names what it has */
	r = find_earlier(c, op, to, &l, &f.earlier);
	if (r == 0)
		r = namespace_refuse(v->ns, op, &f, attr);
	past_turn_release(&v->past);
	version_list_release(&l);
	return r;
}

/* The way back is not known: others have written it, too. It is told, and stays. */
static void only_tell(struct content *c, struct op_ctx *op, const struct judgement *j)
{
	MFS_AUTOFREE char *reason = mfs_str_printf("%s; the file has it all the same, as others wrote it at the same time", j->reason);
	struct node n = NODE_INIT;

	if (reason && namespace_get(c->env->vol->ns, op, c->ino, &n) == 0 && n.parent)
		namespace_refused(c->env->vol->ns, op, &(struct refused_name){ "close", j->kind, n.parent, &n.name, reason });
	node_release(&n);
}

/* A settle may move it meanwhile: the lay, not the content. */
static int again(struct content *c, struct op_ctx *op)
{
	{
		MFS_GUARD(&c->lock);

		c->stale = true;
	}
	return content_refresh(c, op);
}

static int judge_committed(struct content *c, struct op_ctx *op)
{
	int r = -EAGAIN;

	for (int i = 0; i < TRIES_MAX && r == -EAGAIN; i++) {
		uint64_t to;
		struct judgement j;
		struct mfs_attr attr;

		{
			MFS_GUARD(&c->lock);

			to = before_locked(c);
		}
		r = look(c, op, c->state, "", &j);
		if (r < 0 || !j.kind)
			return r;
		r = to < c->state->data ? go_back(c, op, to, &j, &attr) : -ENODATA;
		if (r == -EAGAIN) {
			int err = again(c, op);

			if (err < 0)
				return err;
		} else if (r == -ENODATA) {
			only_tell(c, op, &j);
			return -EINVAL;
		} else if (r == 0) {
			mfs_crash_point("refuse.back");
			MFS_GUARD(&c->lock);

			c->accepted = attr.data;
			c->accepted_empty = attr.size == 0;
			c->stale = true;
			return -EINVAL;
		}
	}
	return r == -ESTALE ? 0 : r == -EAGAIN ? -EIO : r;
}

/* --- a close --- */

static int close_busy(struct content *c, struct op_ctx *op, struct mfs_attr *attr, bool *ret_committed)
{
	bool judged, dirty;
	int r;

	{
		MFS_GUARD(&c->lock);

		dirty = c->dirty;
		c->judging = dirty && c->state->data <= before_locked(c);
	}
	r = dirty ? content_commit(c, op, attr, ret_committed) : 0;
	judged = c->judging;
	c->judging = false;
	if (r == 0 && !judged)
		r = judge_committed(c, op);
	if (r < 0)
		return r;
	MFS_GUARD(&c->lock);

	c->accepted = c->state->data;
	c->accepted_empty = c->state->size == 0;
	c->version_due = true;
	return 0;
}

int content_close(struct content *c, struct op_ctx *op, bool last, struct mfs_attr *attr, bool *ret_committed)
{
	int r = 0;

	if (!c->rules.at_close)
		return content_flush(c, op, attr, ret_committed);
	*ret_committed = false;
	{
		MFS_GUARD(&c->lock);

		content_enter_locked(c);
		if (c->failed)
			r = c->failed;
		else if (c->refused)
			r = -EINVAL; /* nothing was written since */
		else if (!last && c->dirty && c->size == 0 && c->rules.size_min)
			r = 1;
		else if (!c->dirty && c->state->data <= before_locked(c))
			r = 1;
	}
	if (r == 0)
		r = close_busy(c, op, attr, ret_committed);
	{
		MFS_GUARD(&c->lock);

		content_leave_locked(c);
	}
	if (r == 0)
		content_compact_later(c);
	return MFS_MIN(r, 0);
}
