/* The files and the store of tests/lib/reconcile_world.h. */
#include "tests/lib/reconcile_world.h"

#include <errno.h>
#include <stdlib.h>

/* --- a store that is watched --- */

struct watched watched;

static int look_at_part(struct object_upload *u, unsigned int number, uint64_t off, uint64_t len)
{
	unsigned int nth = atomic_fetch_add(&watched.part_calls, 1) + 1;

	if (!(u->store->ops->caps & OBJECT_CAP_SPARSE)) {
		if (number == 1)
			watched.part_end = watched.short_part = 0;
		assert_int_equal(off, watched.part_end);
		assert_int_equal(watched.short_part, 0); /* only the last part may be short */
		watched.part_end = off + len;
		if (len < OBJECT_PART_MIN)
			watched.short_part = off + len;
	}
	return nth == atomic_load(&watched.fail_at) && !watched.cancel ? -EIO : 0;
}

/* Cancelled when it was sent. */
static int sent(int r)
{
	if (watched.cancel && atomic_load(&watched.part_calls) == atomic_load(&watched.fail_at))
		atomic_store(&watched.cancel->cancelled, true);
	return r;
}

static int watched_part(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			const void *buf, size_t len)
{
	int r = look_at_part(u, number, off, len);

	watched.put += len;
	watched.n_parts++;
	return r < 0 ? r : sent(watched.inner->part(u, op, number, off, buf, len));
}

static int watched_part_copy(struct object_upload *u, struct op_ctx *op, unsigned int number, uint64_t off,
			     const struct object_ref *src, uint64_t src_off, uint64_t len)
{
	int r = look_at_part(u, number, off, len);

	watched.copied += len;
	watched.n_copies++;
	return r < 0 ? r : sent(watched.inner->part_copy(u, op, number, off, src, src_off, len));
}

static int watched_put(struct object_store *s, struct op_ctx *op, const char *bucket, const char *key,
		       const void *buf, size_t len, const struct object_meta *meta, struct object_info *ret)
{
	watched.put += len;
	return watched.inner->put(s, op, bucket, key, buf, len, meta, ret);
}

/* The mem store becomes one with nothing but what S3 has. */
void watch(struct world *w)
{
	struct object_store *s = w->v->store;

	memset(&watched, 0, sizeof(watched));
	watched.inner = s->ops;
	watched.ops = *s->ops;
	watched.ops.part = watched_part;
	watched.ops.part_copy = watched_part_copy;
	watched.ops.put = watched_put;
	if (w->kind == WORLD_MEM)
		watched.ops.caps = 0;
	s->ops = &watched.ops;
}

void unwatch(struct world *w)
{
	w->v->store->ops = watched.inner;
}

bool is_sparse(struct world *w)
{
	return object_store_caps(w->v->store) & OBJECT_CAP_SPARSE;
}

/* --- content in each state --- */

unsigned char byte_at(uint64_t off, unsigned int seed)
{
	return (unsigned char)((off * 31 + off / 4096 * 7 + seed * 101) % 255 + 1);
}

unsigned char *bytes_of(uint64_t off, size_t len, unsigned int seed)
{
	unsigned char *p = malloc(len ? len : 1);

	assert_non_null(p);
	for (size_t i = 0; i < len; i++)
		p[i] = byte_at(off + i, seed);
	return p;
}

mfs_ino_t make_file(struct world *w, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct make m = { .mode = S_IFREG | 0640, .name = slash ? slash + 1 : path };
	char *dir = slash ? strndup(path, (size_t)(slash - path)) : strdup("");
	struct node n = NODE_INIT;
	mfs_ino_t ino = world_ino(w, path);

	m.parent = *dir ? world_ino(w, dir) : MFS_ROOT_INO;
	m.name_len = strlen(m.name);
	free(dir);
	if (ino)
		return ino;
	assert_int_equal(namespace_make(w->v->ns, &w->op, &m, &n), 0);
	ino = n.attr.ino;
	node_release(&n);
	return ino;
}

mfs_ino_t write_inline(struct world *w, const char *path, const void *data, size_t len, int64_t todo)
{
	mfs_ino_t ino = make_file(w, path);
	struct node n = world_node(w, ino);
	struct node_blob blob = { .data = (void *)(uintptr_t)data, .size = len };
	struct commit c = { .ino = ino,
			    .lay = n.attr.lay,
			    .size = len,
			    .mtime = 1234567890123456789,
			    .inline_data = &blob,
			    .todo = todo };
	struct mfs_attr attr;

	assert_int_equal(namespace_commit(w->v->ns, &w->op, &c, &attr), 0);
	node_release(&n);
	return ino;
}

/* A whole object of `size` bytes at its key. */
mfs_ino_t write_object(struct world *w, const char *path, uint64_t size, unsigned int seed)
{
	MFS_AUTOBUF struct mfs_buf key = MFS_BUF_INIT(1 << 16);
	mfs_ino_t ino = make_file(w, path);
	unsigned char *data = bytes_of(0, (size_t)size, seed);
	struct node n = world_node(w, ino);
	struct object_meta meta = volume_object_meta(w->v, &n.attr);
	struct object_info info = { 0 };
	struct commit c;
	struct mfs_attr attr;
	bool temporary;

	assert_int_equal(namespace_key(w->v->ns, &w->op, ino, &key, &temporary), 0);
	assert_int_equal(object_put(w->v->store, &w->op, NULL, key.data, data, (size_t)size, &meta, &info), 0);
	c = (struct commit){ .ino = ino,
			     .lay = n.attr.lay,
			     .ref = { .key = key.data },
			     .obj_len = size,
			     .size = size,
			     .mtime = 1234567890123456789 };
	memcpy(c.ref.version, info.version, sizeof(c.ref.version));
	assert_int_equal(namespace_commit(w->v->ns, &w->op, &c, &attr), 0);
	node_release(&n);
	free(data);
	return ino;
}

static int encode(struct world *w, struct layout *l, struct node_blob *blob, struct slices_doc_list *docs, mfs_ino_t ino)
{
	uint64_t first = 1;

	if (layout_docs_needed(l)) {
		assert_int_equal(namespace_reserve(w->v->ns, &w->op, (unsigned int)layout_docs_needed(l), &first), 0);
		assert_int_equal(layout_make_docs(l, ino, w->v->session, first, docs), 0);
	}
	return layout_encode(l, blob);
}

static int whole_layout(struct world *w, const struct node *n, struct layout *l)
{
	int r = layout_parse(&n->slices, l);

	for (size_t i = 0; r == 0 && i < l->n_docs; i++) {
		struct node_blob doc = { 0 };

		r = engine_slices_get(w->v->engine, &w->op, n->attr.ino, l->docs[i].id, &doc);
		if (r == 0)
			r = layout_add_doc(l, i, &doc);
		free(doc.data);
	}
	return r;
}

/* One commit of ranges, in one patch object, as fs/content makes it. -EAGAIN: the record moved. */
int patch_once(struct world *w, mfs_ino_t ino, const struct change_of *v, size_t n_v, unsigned int seed,
		      int64_t todo)
{
	struct node n = world_node(w, ino);
	struct object_meta meta = volume_object_meta(w->v, &n.attr);
	struct segment seg = { .session = w->v->session, .op = atomic_fetch_add(&w->v->next_op, 1) };
	struct slices_doc_list docs = { 0 };
	struct node_blob blob = { 0 };
	unsigned char *data = NULL;
	struct object_info info;
	struct mfs_attr attr;
	struct object_ref ref = { 0 };
	struct layout l;
	char key[LAYOUT_PATCH_KEY_MAX];
	uint64_t end = n.attr.size;
	struct commit c;
	int r;

	layout_init(&l);
	r = whole_layout(w, &n, &l);
	if (r == -ENOENT) { /* settled since */
		node_release(&n);
		layout_release(&l);
		return -EAGAIN;
	}
	assert_int_equal(r, 0);
	seg.pos = l.log_end;
	for (size_t i = 0; i < n_v; i++) {
		if (!v[i].hole) {
			data = realloc(data, seg.len + v[i].len);
			for (uint64_t k = 0; k < v[i].len; k++)
				data[seg.len + k] = byte_at(v[i].off + k, seed);
		}
		assert_int_equal(layout_set(&l, v[i].off, v[i].len, v[i].hole ? LAYOUT_HOLE : seg.pos + seg.len), 0);
		seg.len += v[i].hole ? 0 : v[i].len;
		end = MFS_MAX(end, v[i].off + v[i].len);
	}
	l.holes_in_base = false;
	if (seg.len) {
		layout_patch_key(&seg, key);
		assert_int_equal(object_put(w->v->store, &w->op, NULL, key, data, seg.len, &meta, &info), 0);
		memcpy(seg.version, info.version, sizeof(seg.version));
		assert_int_equal(layout_add_segment(&l, &seg, NULL, NULL), 0);
	}
	assert_int_equal(encode(w, &l, &blob, &docs, ino), 0);
	c = (struct commit){ .ino = ino,
			     .lay = n.attr.lay,
			     .ref = n.ref,
			     .obj_len = n.attr.obj_len,
			     .size = end,
			     .slices = &blob,
			     .docs = docs.v,
			     .n_docs = (uint32_t)docs.n,
			     .mtime = 1234567890123456789,
			     .todo = todo };
	r = namespace_commit(w->v->ns, &w->op, &c, &attr);
	if (r < 0 && seg.len) {
		assert_int_equal(layout_segment_ref(&seg, &ref), 0);
		assert_int_equal(object_delete_version(w->v->store, &w->op, &ref), 0);
		object_ref_release(&ref);
	}
	free(blob.data);
	free(data);
	slices_doc_list_release(&docs);
	layout_release(&l);
	node_release(&n);
	return r;
}

void patch(struct world *w, mfs_ino_t ino, uint64_t off, uint64_t len, unsigned int seed)
{
	struct change_of v = { .off = off, .len = len };

	assert_int_equal(patch_once(w, ino, &v, 1, seed, mfs_now_ns() + 30 * MFS_NSEC_PER_SEC), 0);
}

void punch(struct world *w, mfs_ino_t ino, uint64_t off, uint64_t len)
{
	struct change_of v = { .off = off, .len = len, .hole = true };

	assert_int_equal(patch_once(w, ino, &v, 1, 0, mfs_now_ns() + 30 * MFS_NSEC_PER_SEC), 0);
}

/* --- what must come of it --- */

/* The file as the index has it. */
unsigned char *read_file(struct world *w, mfs_ino_t ino, uint64_t off, size_t len)
{
	struct node n = world_node(w, ino);
	unsigned char *buf = malloc(len ? len : 1);
	struct snapshot *s;

	assert_non_null(buf);
	assert_int_equal(snapshot_of_node(w->v, &w->op, &n, &s), 0);
	if (len)
		assert_int_equal(snapshot_read(s, &w->op, off, buf, len), 0);
	snapshot_free(s);
	node_release(&n);
	return buf;
}

enum file_state state_of(struct world *w, mfs_ino_t ino)
{
	struct node n = world_node(w, ino);
	enum file_state s;

	assert_int_equal(reconcile_state(w->v, &w->op, &n, &s), 0);
	node_release(&n);
	return s;
}

/* Settled, at `key`, with these bytes; label, mode and time as the file has them. */
void assert_settled(struct world *w, mfs_ino_t ino, const char *key, const unsigned char *want, uint64_t size)
{
	struct node n = world_node(w, ino);
	unsigned char *got = malloc(size ? (size_t)size : 1);
	struct object_info top;

	assert_int_equal(state_of(w, ino), FILE_SETTLED);
	assert_int_equal(n.todo, 0);
	assert_int_equal(n.attr.size, size);
	assert_int_equal(n.attr.obj_len, size);
	assert_null(n.inline_data.data);
	assert_string_equal(n.ref.key, key);
	assert_int_equal(object_head(w->v->store, &w->op, NULL, key, NULL, &top), 0);
	assert_string_equal(top.version, n.ref.version);
	assert_int_equal(top.size, size);
	assert_true(top.own);
	assert_int_equal(top.ino, ino);
	assert_int_equal(top.session, w->v->session);
	assert_int_equal(object_get(w->v->store, &w->op, &n.ref, 0, got, (size_t)size), size);
	assert_true(memcmp(got, want, (size_t)size) == 0);
	if (w->kind == WORLD_LOCAL) {
		char path[256];
		struct stat st;

		snprintf(path, sizeof(path), "%s/objects/%s", w->dir, key);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, size);
		assert_int_equal(st.st_mode & 0777, n.attr.mode & 0555);
		assert_int_equal(mfs_timespec_to_ns(st.st_mtim), n.attr.mtime);
	}
	free(got);
	node_release(&n);
}

bool is_named(struct world *w, const char *version)
{
	struct query q = { .limit = 1000 };
	struct node_list l = NODE_LIST_INIT;
	struct dropped_list d = { 0 };
	bool found = false;

	assert_true(engine_query(w->v->engine, &w->op, &q, &l) >= 0);
	for (size_t i = 0; i < l.n; i++) {
		struct layout lay;

		found |= strcmp(l.v[i].ref.version, version) == 0;
		assert_int_equal(layout_parse(&l.v[i].slices, &lay), 0);
		for (size_t k = 0; k < lay.n_segments; k++)
			found |= strcmp(lay.segments[k].version, version) == 0;
		layout_release(&lay);
	}
	node_list_release(&l);
	assert_int_equal(engine_dropped(w->v->engine, &w->op, INT64_MAX, 0, 10000, &d), 0);
	for (size_t i = 0; i < d.n; i++)
		found |= strcmp(d.v[i].ref.version, version) == 0;
	dropped_list_release(&d);
	return found;
}

static int count_one(void *arg, const char *key, const struct object_info *info)
{
	struct count *c = arg;

	(void)key;
	c->all++;
	if (!is_named(c->w, info->version))
		c->unnamed++;
	return 0;
}

struct count count_objects(struct world *w)
{
	struct count c = { .w = w };

	assert_int_equal(object_list_versions(w->v->store, &w->op, NULL, count_one, &c), 0);
	return c;
}
