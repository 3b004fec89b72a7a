/*
 * Content that storage rules refuse at close, kept aside.
 *
 * It becomes a version, as replaced content does: so it is kept, collected, dumped, checked and read as any version is. Its
 * number is drawn from above all that a file's counter `data` comes to, so it is nobody else's; its path is the failure's id.
 * Version, failure and (where there is one) the way back are one change: either all of it happened, or the close has not
 * been answered yet and what was stored for it is an upload without a commit.
 */
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "common/checksum.h"
#include "common/str.h"
#include "meta/namespace_internal.h"
#include "meta/shared.h"

#define NUMBER_FROM (UINT64_C(1) << 62)

/* What the change borrows. */
struct room {
	struct node n; /* the record */
	struct node set; /* borrows from n and the refusal */
	struct mfs_buf path;
	struct cell_record cell;
	struct version_record version; /* borrows, but for path */
	struct ns_report report;
};

static void room_release(struct room *m)
{
	free(m->version.path);
	cell_record_release(&m->cell);
	mfs_buf_release(&m->path);
	node_release(&m->n);
}
#define AUTO_ROOM MFS_CLEANUP(room_release)

static uint64_t new_number(void)
{
	uint64_t dice;

	if (getrandom(&dice, sizeof(dice), 0) != (ssize_t)sizeof(dice))
		dice = (uint64_t)mfs_now_ns();
	return NUMBER_FROM | (dice >> 2);
}

static void sum(const struct node_blob *bytes, char etag[static OBJECT_ETAG_MAX + 1])
{
	char text[MFS_CHECKSUM_ETAG_MAX];

	mfs_checksum_etag(mfs_checksum(bytes->data, bytes->size), text);
	snprintf(etag, OBJECT_ETAG_MAX + 1, "%s", text);
}

/* What is refused, into the version. */
static void take_content(const struct commit *c, struct version_record *v)
{
	v->ref = c->ref;
	v->size = c->size;
	v->obj_len = c->obj_len;
	v->mtime = c->mtime ? c->mtime : v->mtime;
	snprintf(v->etag, sizeof(v->etag), "%s", c->etag ? c->etag : "");
	v->slices = c->slices ? *c->slices : (struct node_blob){ 0 };
	v->inline_data = c->inline_data ? *c->inline_data : (struct node_blob){ 0 };
	if (v->inline_data.size)
		sum(&v->inline_data, v->etag);
}

static void take_record(const struct node *n, struct version_record *v)
{
	v->ref = n->ref;
	v->size = n->attr.size;
	v->obj_len = n->attr.obj_len;
	v->slices = n->slices;
	v->inline_data = n->inline_data;
	memcpy(v->etag, n->etag, sizeof(v->etag));
}

static int fill_version(const struct ns_op *x, const struct content_refusal *f, struct room *m)
{
	struct version_record *v = &m->version;
	const struct mfs_attr *a = &m->n.attr;

	*v = (struct version_record){ .ino = f->ino,
				      .data = new_number(),
				      .path = mfs_str_printf(REFUSED_PATH "%s", ns_failure_id(&m->cell)),
				      .mtime = a->mtime,
				      .replaced = x->now,
				      .mode = a->mode,
				      .uid = a->uid,
				      .gid = a->gid,
				      .writer = f->uid };
	if (__builtin_add_overflow(x->now, x->ns->opt.retention_ns, &v->until))
		v->until = INT64_MAX;
	if (f->content)
		take_content(f->content, v);
	else
		take_record(&m->n, v);
	return v->path ? 0 : -ENOMEM;
}

/* --- the way back --- */

/* Do others have the object, too? Then whoever changes the file must know (ATTR_SHARED). */
static int is_shared(struct ns_op *x, const struct object_ref *ref)
{
	MFS_CLEANUP(cell_record_release) struct cell_record cell = { 0 };
	int r = ref->key ? shared_get(x->ns->e, x->op, ref->version, &cell) : 0;

	return r < 0 && r != -ENOTSUP ? r : cell.name != NULL;
}

static uint64_t alloc_of(const struct version_record *v)
{
	uint64_t bytes = v->inline_data.size ? v->inline_data.size : MFS_MAX(v->obj_len, v->slices.size ? v->size : 0);

	return (bytes + 511) / 512 * 512;
}

/* The earlier content, as the reconciler is to find it: whatever is at its key by now. */
static int write_back(struct ns_op *x, const struct content_refusal *f, struct room *m, struct write *w)
{
	static const struct version_record nothing;
	const struct version_record *v = f->earlier ? f->earlier : &nothing;
	struct node *set = &m->set;
	uint64_t whole;
	int shared = is_shared(x, &v->ref);

	if (shared < 0)
		return shared;
	set->ref = v->ref;
	set->slices = v->slices;
	set->inline_data = v->inline_data;
	memcpy(set->etag, v->etag, sizeof(set->etag));
	set->hash[0] = '\0';
	if (!v->slices.size && (v->inline_data.size || v->obj_len == v->size) && mfs_checksum_parse(v->etag, &whole))
		memcpy(set->hash, v->etag, sizeof(set->hash));
	set->mime = NULL; /* not known any more; a settle looks again */
	set->attr.size = v->size;
	set->attr.obj_len = v->obj_len;
	set->attr.alloc = alloc_of(v);
	set->attr.mtime = f->earlier ? v->mtime : x->now;
	set->attr.ctime = x->now;
	set->attr.flags = (set->attr.flags & ~(uint32_t)ATTR_SHARED) | (shared ? ATTR_SHARED : 0);
	set->todo = x->now;
	x->work_now = true;
	w->mask = EDIT_REF | EDIT_SIZE | EDIT_MTIME | EDIT_CTIME | EDIT_TODO | EDIT_SHARED | EDIT_MIME | EDIT_BUMP_DATA | EDIT_BUMP_LAY;
	return 0;
}

/* --- the change --- */

/* The keys that show what was refused. */
static int queue_keys(struct ns_op *x, const struct content_refusal *f, const struct room *m)
{
	const char *key = f->content ? f->content->ref.key : m->n.ref.key;
	int r = key ? ns_job_key(x, key) : 0;

	if (r == 0 && f->back && f->earlier && f->earlier->ref.key)
		r = ns_job_place(x, f->earlier->ref.key, f->ino);
	return r;
}

static int build(struct ns_op *x, const struct content_refusal *f, struct room *m, struct mfs_attr *ret)
{
	struct write *w;
	int r;

	m->report = (struct ns_report){ .operation = "close", .kind = f->why->kind, .reason = f->why->reason,
					.path = mfs_buf_str(&m->path), .ino = f->ino, .uid = f->uid, .kept = true,
					.size = f->content ? f->content->size : m->n.attr.size };
	r = ns_failure_cell(x->ns, &m->report, x->now, &m->cell);
	if (r == 0)
		r = fill_version(x, f, m);
	if (r == 0)
		r = queue_keys(x, f, m);
	if (r < 0)
		return r;
	if (f->content && f->content->n_docs) {
		w = change_write(&x->c, WRITE_SLICES_PUT, 0);
		w->slices = f->content->docs;
		w->n = f->content->n_docs;
	}
	change_write(&x->c, WRITE_VERSION_PUT, 0)->version = &m->version;
	change_write(&x->c, WRITE_CELL_PUT, 0)->cell = &m->cell;
	w = change_write(&x->c, WRITE_EDIT, f->ino);
	m->set = m->n; /* borrows */
	w->node = &m->set;
	w->ret_attr = ret;
	w->expect.flags = EXPECT_LAY | EXPECT_NOT_FENCED | EXPECT_IN_FILES;
	w->expect.lay = f->lay;
	w->expect.session = f->session;
	ns_expect_name(w, m->n.parent, &m->n.name);
	x->c.durable = true;
	return f->back ? write_back(x, f, m, w) : 0;
}

static int refuse_once(struct namespace *ns, struct op_ctx *op, const struct content_refusal *f, bool *mine, struct mfs_attr *ret)
{
	AUTO_ROOM struct room m = { .path = MFS_BUF_INIT(NS_PATH_MAX) };
	NS_AUTOOP struct ns_op x;
	struct mfs_attr done;
	int r;

	ns_op_init(&x, ns, op);
	*mine = false;
	r = engine_get(ns->e, op, f->ino, &m.n);
	if (r < 0)
		return r;
	if (m.n.attr.lay != f->lay)
		return -EAGAIN;
	if (node_blob_has_u64(&m.n.fenced, f->session))
		return -EIO;
	*mine = true;
	if (!m.n.parent) /* removed meanwhile: no rules hold for what has no name, and nobody looks for it */
		return -ESTALE;
	r = ns_path(ns, op, m.n.parent, &m.n.name, &m.path);
	if (r == 0)
		r = build(&x, f, &m, &done);
	if (r == 0)
		r = ns_op_apply(&x);
	if (r == 0) {
		*ret = done;
		ns_failure_log(op, &m.report);
	}
	return r == -ENOENT ? -EAGAIN : r;
}

int namespace_refuse(struct namespace *ns, struct op_ctx *op, const struct content_refusal *f, struct mfs_attr *ret)
{
	for (unsigned int i = 0;; i++) {
		bool mine;
		int r = refuse_once(ns, op, f, &mine, ret);

		if (!mine || r == -ESTALE || !ns_again(op, "refuse", f->ino, i, &r))
			return r;
	}
}
