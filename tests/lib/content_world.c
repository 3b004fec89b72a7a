/* The world of tests/lib/content_world.h. */
#include "tests/lib/content_world.h"

static void open_mount(struct world *w, const struct world_options *o)
{
	struct namespace_options no = { .retention_ns = 3600 * MFS_NSEC_PER_SEC };
	uint64_t number;

	assert_int_equal(mem_engine_new(w->shared, &w->vol.engine), 0);
	assert_int_equal(engine_reserve(w->vol.engine, &w->op, 1, &number), 0);
	w->vol.session = number;
	assert_int_equal(namespace_new(w->vol.engine, &no, &w->vol.ns), 0);
	w->vol.cfg = &w->cfg;
	w->cfg.inline_size = o->inline_size;
	w->cfg.commit_ns = MFS_NSEC_PER_SEC;
	w->vol.engine->session = w->vol.session;
	w->vol.lock_fd = -1;
	w->vol.next_op = 1;
	assert_int_equal(budget_new(o->budget, &w->budget), 0);
	assert_int_equal(workers_new("up", 3, 8, &w->uploaders), 0);
	content_env_init(&w->env, &w->vol, w->budget, w->uploaders);
}

static void open_store(struct world *w, const struct world_options *o)
{
	if (o->store == STORE_LOCAL) {
		struct localdir_options lo = { .create = true, .nosync = true };

		assert_int_equal(localdir_store_open(w->dir, &lo, &w->vol.store), 0);
	} else {
		assert_int_equal(mem_store_new(&w->vol.store), 0);
	}
	assert_int_equal(count_store_new(w->vol.store, o->store == STORE_REMOTE ? 0 : ~0u, &w->stats, &w->vol.store), 0);
	if (o->fail_nth) {
		w->inner = w->vol.store;
		assert_int_equal(fault_store_new(w->inner, o->fail_nth, ENOSPC, &w->vol.store), 0);
		w->fault = w->vol.store;
	}
}

void world_open_opt(struct world *w, const struct world_options *o)
{
	struct volume_record rec = { .schema = MFS_SCHEMA };
	struct make m = { .parent = MFS_ROOT_INO, .name = "file", .name_len = 4, .mode = S_IFREG | 0644 };
	struct node n = NODE_INIT;
	struct engine *e;

	memset(w, 0, sizeof(*w));
	strcpy(w->dir, "/tmp/massfs-content-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(mem_shared_new(&w->shared), 0);
	assert_int_equal(mem_engine_new(w->shared, &e), 0);
	assert_int_equal(engine_volume_put(e, &w->op, &rec), 0);
	engine_free(e);
	open_store(w, o);
	open_mount(w, o);
	assert_int_equal(namespace_make(w->vol.ns, &w->op, &m, &n), 0);
	w->ino = n.attr.ino;
	node_release(&n);
}

void world_open(struct world *w, enum store_kind kind, unsigned int fail_nth, uint64_t budget_bytes)
{
	struct world_options o = { .store = kind, .fail_nth = fail_nth, .budget = budget_bytes };

	world_open_opt(w, &o);
}

void world_open_second(struct world *w, struct world *first, uint64_t budget_bytes)
{
	struct world_options o = { .budget = budget_bytes, .inline_size = first->cfg.inline_size };

	memset(w, 0, sizeof(*w));
	w->first = first;
	w->shared = first->shared;
	w->vol.store = first->vol.store;
	w->ino = first->ino;
	open_mount(w, &o);
}

void world_close(struct world *w)
{
	char cmd[100];

	workers_free(w->uploaders);
	content_env_release(&w->env);
	assert_int_equal(budget_used(w->budget), 0);
	budget_free(w->budget);
	namespace_free(w->vol.ns);
	engine_free(w->vol.engine);
	mime_release(&w->vol.mime);
	if (w->first)
		return;
	mem_shared_free(w->shared);
	object_store_free(w->fault ? w->fault : w->vol.store);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
}

struct content *open_writer(struct world *w)
{
	struct content *c = NULL;

	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	content_writer_opened(c);
	return c;
}

void close_writer(struct content *c)
{
	content_writer_closed(c);
	content_free(c);
}

uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

struct node file_node(struct world *w)
{
	struct node n = NODE_INIT;

	assert_int_equal(namespace_get(w->vol.ns, &w->op, w->ino, &n), 0);
	return n;
}

void assert_stored(struct world *w, const unsigned char *want, size_t size)
{
	unsigned char *got = malloc(size + 1);
	struct content *c = NULL;
	struct node n = file_node(w);

	assert_int_equal(n.attr.size, size);
	node_release(&n);
	assert_int_equal(content_open(&w->env, &w->op, w->ino, &c), 0);
	assert_int_equal(content_read(c, &w->op, 0, got, size + 1), size);
	assert_memory_equal(got, want, size);
	content_free(c);
	free(got);
}

size_t count_versions(struct world *w)
{
	struct version_list l = { 0 };
	size_t n;

	assert_int_equal(engine_versions_by_ino(w->vol.engine, &w->op, w->ino, &l), 0);
	n = l.n;
	version_list_release(&l);
	return n;
}

void fill_random(unsigned char *buf, size_t len, uint64_t *seed)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = rnd(seed);

		memcpy(buf + i, &v, MFS_MIN(len - i, sizeof(v)));
	}
}

/* A file with an object of `size` bytes, closed. Returns its bytes. */
unsigned char *make_random_file(struct world *w, size_t size)
{
	unsigned char *bytes = malloc(size);
	struct content *c = open_writer(w);
	uint64_t seed = 77;

	fill_random(bytes, size, &seed);
	assert_int_equal(content_write(c, &w->op, 0, bytes, size, false), 0);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
	close_writer(c);
	return bytes;
}

void write_random(struct world *w, struct content *c, unsigned char *bytes, uint64_t off, size_t len, uint64_t *seed)
{
	fill_random(bytes + off, len, seed);
	assert_int_equal(content_write(c, &w->op, off, bytes + off, len, false), 0);
	assert_int_equal(content_flush(c, &w->op, NULL, NULL), 0);
}

/* The layout as the index has it, whole. */
struct layout file_layout(struct world *w, struct node *n)
{
	struct layout l;

	*n = file_node(w);
	assert_in_range(n->slices.size, 0, LAYOUT_BLOB_MAX);
	assert_int_equal(layout_parse(&n->slices, &l), 0);
	for (size_t i = 0; i < l.n_docs; i++) {
		struct node_blob doc = { 0 };

		assert_int_equal(engine_slices_get(w->vol.engine, &w->op, w->ino, l.docs[i].id, &doc), 0);
		assert_int_equal(layout_add_doc(&l, i, &doc), 0);
		free(doc.data);
	}
	return l;
}
