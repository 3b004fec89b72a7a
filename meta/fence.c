/* Fencing of records: meta/fence.h. */
#include "meta/fence.h"

#include <errno.h>
#include <inttypes.h>

#include "common/log.h"
#include "common/op_ctx.h"

#define TRIES_MAX 100
#define MANY	  32 /* sessions in a record: those that nobody knows any more are taken out */

/* A session's record is kept for days after its end: who has none cannot wake with a commit in hand. */
static int forget_old(struct engine *e, struct op_ctx *op, struct node *n)
{
	struct session_list l = { 0 };
	struct node_blob keep = { 0 };
	int r = engine_sessions(e, op, &l);

	for (size_t i = 0; i < l.n && r == 0; i++)
		if (node_blob_has_u64(&n->fenced, l.v[i].id))
			r = node_blob_add_u64(&keep, l.v[i].id);
	session_list_release(&l);
	if (r < 0) {
		free(keep.data);
		return r;
	}
	free(n->fenced.data);
	n->fenced = keep;
	return 0;
}

int fence_write(struct engine *e, struct op_ctx *op, struct node *n, uint64_t session, struct change *c)
{
	struct write *w;
	int r = 0;

	if (node_blob_has_u64(&n->fenced, session))
		return 0;
	if (n->fenced.size >= MANY * sizeof(uint64_t))
		r = forget_old(e, op, n);
	if (r == 0)
		r = node_blob_add_u64(&n->fenced, session);
	if (r < 0)
		return r;
	w = change_write(c, WRITE_EDIT, n->attr.ino);
	w->node = n;
	w->mask = EDIT_FENCED;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = n->attr.ver;
	return 1;
}

int fence_inode(struct engine *e, struct op_ctx *op, mfs_ino_t ino, uint64_t session)
{
	int r = -EAGAIN;

	for (int i = 0; i < TRIES_MAX && r == -EAGAIN; i++) {
		struct op_ctx fresh = op_ctx_fresh(op);
		struct node n = NODE_INIT;
		struct change c = { 0 };

		if (atomic_load(&op->cancelled))
			return -ECANCELED;
		r = engine_get(e, &fresh, ino, &n);
		if (r == 0)
			r = fence_write(e, op, &n, session, &c);
		if (r == 1)
			r = engine_apply(e, op, &c);
		node_release(&n);
	}
	if (r == -EAGAIN) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, op, "inode=%" PRIu64 " is changed faster than it can be fenced; tried again later",
			ino);
		return -EIO;
	}
	return r == -ESTALE ? 0 : r;
}
