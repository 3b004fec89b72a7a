/* Contents over a volume of tests (world_mount.h). */
#include "tests/lib/world_mount.h"

void mount_open(struct mount *m, struct world *w)
{
	memset(m, 0, sizeof(*m));
	m->w = w;
	assert_int_equal(budget_new(16 * MIB, &m->budget), 0);
	assert_int_equal(workers_new("up", 2, 8, &m->uploaders), 0);
	content_env_init(&m->env, w->v, m->budget, m->uploaders);
}

void mount_close(struct mount *m)
{
	workers_free(m->uploaders);
	content_env_release(&m->env);
	assert_int_equal(budget_used(m->budget), 0);
	budget_free(m->budget);
}

struct content *mount_writer(struct mount *m, mfs_ino_t ino)
{
	struct content *c = NULL;

	assert_int_equal(content_open(&m->env, &m->w->op, ino, &c), 0);
	content_writer_opened(c);
	return c;
}

void mount_close_writer(struct mount *m, struct content *c)
{
	assert_int_equal(content_flush(c, &m->w->op, NULL, NULL), 0);
	content_closed(c);
	content_writer_closed(c);
	content_free(c);
}

mfs_ino_t mount_make(struct world *w, const char *name)
{
	struct make m = { .parent = MFS_ROOT_INO, .name = name, .name_len = strlen(name), .mode = S_IFREG | 0644 };
	struct node n = NODE_INIT;
	mfs_ino_t ino;

	assert_int_equal(namespace_make(w->v->ns, &w->op, &m, &n), 0);
	ino = n.attr.ino;
	node_release(&n);
	return ino;
}

unsigned char *mount_pattern(size_t size, unsigned int seed)
{
	unsigned char *p = malloc(size);

	assert_non_null(p);
	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)((i * 31 + i / 4096 * 7 + seed * 101) % 255 + 1);
	return p;
}

void mount_write(struct mount *m, mfs_ino_t ino, const unsigned char *bytes, size_t size)
{
	struct content *c = mount_writer(m, ino);

	assert_int_equal(content_write(c, &m->w->op, 0, bytes, size, false), 0);
	mount_close_writer(m, c);
}

void mount_assert_reads(struct mount *m, mfs_ino_t ino, const unsigned char *want, size_t size)
{
	unsigned char *got = malloc(size + 1);
	struct content *c = NULL;

	assert_int_equal(content_open(&m->env, &m->w->op, ino, &c), 0);
	assert_int_equal(content_read(c, &m->w->op, 0, got, size + 1), size);
	assert_memory_equal(got, want, size);
	content_free(c);
	free(got);
}

void world_assert_native(struct world *w, const char *key, const unsigned char *want, size_t size)
{
	struct object_ref ref = { .key = strdup(key) };
	unsigned char *got = malloc(size);
	struct object_info info;
	size_t done = 0;

	assert_int_equal(object_head(w->v->store, &w->op, NULL, key, NULL, &info), 0);
	assert_int_equal(info.size, size);
	memcpy(ref.version, info.version, sizeof(ref.version));
	while (done < size) {
		ssize_t n = object_get(w->v->store, &w->op, &ref, done, got + done, size - done);

		assert_true(n > 0);
		done += (size_t)n;
	}
	assert_memory_equal(got, want, size);
	free(got);
	free(ref.key);
}
