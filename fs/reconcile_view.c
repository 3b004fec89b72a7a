/*
 * After a crash: an upload that was put on top of its key and never committed stands there for what the index has.
 * No job tells of it, as the commit would have been the first change to know. So the keys whose top the dead session
 * made are compared with the index, and those that differ are queued.
 */
#include <errno.h>
#include <string.h>

#include "fs/index_log.h"
#include "fs/reconcile_internal.h"

struct view_walk {
	struct reconcile_ctx *rc;
	uint64_t session;
};

/*
 * Where copies share their data (localdir), a view bears the label of the newest of them: one that a later session made of the
 * same file, too, which has been here before us. Sessions' numbers rise.
 */
static bool may_be_theirs(const struct view_walk *w, const struct object_info *info)
{
	if (object_store_caps(w->rc->v->store) & OBJECT_CAP_CHEAP_COPY)
		return info->session >= w->session;
	return info->session == w->session;
}

static int look(void *arg, const char *key, const struct object_info *info)
{
	struct view_walk *w = arg;
	struct node n = NODE_INIT;
	bool right = false;
	int r;

	if (atomic_load(&w->rc->op->cancelled))
		return -ECANCELED;
	if (!info->own || !may_be_theirs(w, info) || index_log_owns(key))
		return 0;
	r = reconcile_file_at(w->rc, key, &n);
	if (r == 1) {
		right = n.ref.key && strcmp(n.ref.key, key) == 0 && strcmp(n.ref.version, info->version) == 0;
		node_release(&n);
	}
	return r < 0 || right ? MFS_MIN(r, 0) : reconcile_queue_key(w->rc->v, w->rc->op, key);
}

int reconcile_view(struct reconcile_ctx *rc, uint64_t session)
{
	struct view_walk w = { .rc = rc, .session = session };

	return object_list_keys(rc->v->store, rc->op, NULL, "", look, &w);
}
