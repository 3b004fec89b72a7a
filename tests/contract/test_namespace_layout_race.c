/*
 * Commits of patches against each other, against settles, truncations, rewrites and unlinks, from several threads on few
 * files. Whatever won: what a commit stored that succeeded is named by the record or a version, or is in dropped; what
 * one stored that lost is nowhere. Steps of each thread: MASSFS_RACE_ROUNDS (1,000).
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "meta/drops.h"
#include "meta/layout.h"
#include "tests/lib/namespace_world.h"

#define ROOT	MFS_ROOT_INO
#define THREADS 4
#define FILES	3
#define STEPS	((unsigned int)env_number("MASSFS_RACE_ROUNDS", 1000))

enum fate { NOT_STORED, LOST, COMMITTED };

struct worker {
	struct ns_world *w;
	unsigned int i, n, seed;
	const mfs_ino_t *files;
	unsigned char *fate; /* of the patch object and document of step k: enum fate */
	unsigned char *with_doc;
	mfs_ino_t *of;
	unsigned int won, lost;
	int bad; /* an error that no race explains */
};

/* Numbers of objects, patch objects and documents: unique over the threads, never 0. */
static uint64_t number(const struct worker *k, unsigned int step)
{
	return (uint64_t)(k->i + 1) * 1000000 + step;
}

/* The layout that was read, with one more patch; now and then all of it as one. */
static int patched(const struct worker *k, unsigned int step, const struct node *n, bool with_doc, struct node_blob *ret)
{
	uint64_t op = number(k, step);
	struct segment s = { .len = 10, .session = 100, .op = op };
	struct layout l;
	int r;

	r = layout_parse(&n->slices, &l);
	if (r == 0 && l.n_segments > 20) {
		layout_release(&l);
		layout_init(&l);
	}
	s.pos = l.log_end;
	snprintf(s.version, sizeof(s.version), "p%" PRIu64, op);
	if (r == 0)
		r = layout_add_segment(&l, &s, NULL, NULL);
	if (r == 0)
		r = layout_set(&l, step % 90 * 10, 10, s.pos);
	if (r == 0 && with_doc) {
		free(l.docs);
		l.docs = calloc(1, sizeof(*l.docs));
		if (!l.docs)
			abort();
		*l.docs = (struct layout_doc){ .start = 0, .end = 100, .id = op, .n = 1 };
		l.n_docs = l.cap_docs = 1;
	}
	if (r == 0)
		r = layout_encode(&l, ret);
	layout_release(&l);
	return r;
}

static int step_patch(struct worker *k, unsigned int step, const struct node *n)
{
	struct op_ctx op = { .id = 1 };
	char text[] = "document";
	struct slices_doc_record doc = { .ino = n->attr.ino, .id = number(k, step), .blob = { text, sizeof(text) } };
	struct commit c = { .ino = n->attr.ino, .lay = n->attr.lay, .obj_len = n->attr.obj_len, .ref = n->ref, .todo = 5 };
	struct node_blob b = { 0 };
	struct mfs_attr a;
	int r;

	k->with_doc[step] = rand_r(&k->seed) % 3 == 0;
	r = patched(k, step, n, k->with_doc[step], &b);
	if (r < 0)
		return r;
	c.size = MFS_MAX(n->attr.size, (uint64_t)1000);
	c.slices = &b;
	c.docs = &doc;
	c.n_docs = k->with_doc[step];
	c.keep_version = rand_r(&k->seed) % 4 == 0;
	r = namespace_commit(k->w->ns[k->i % 2], &op, &c, &a);
	free(b.data);
	k->fate[step] = r == 0 ? COMMITTED : LOST;
	k->of[step] = n->attr.ino;
	return r;
}

static int step_rewrite(struct worker *k, unsigned int step, const struct node *n, bool settle)
{
	struct op_ctx op = { .id = 1 };
	char key[] = "some key", text[] = "inline";
	struct node_blob b = { text, 6 };
	struct commit c = { .ino = n->attr.ino, .lay = n->attr.lay, .settle = settle, .keep_version = step % 3 == 0 };
	struct mfs_attr a;

	if (!settle && step % 2) {
		c.inline_data = &b;
		c.size = 6;
		c.todo = 5;
	} else {
		c.size = c.obj_len = n->attr.size;
		c.ref.key = key;
		snprintf(c.ref.version, sizeof(c.ref.version), "o%" PRIu64, number(k, step));
	}
	return namespace_commit(k->w->ns[k->i % 2], &op, &c, &a);
}

static int one_step(struct worker *k, unsigned int step)
{
	struct op_ctx op = { .id = 1 };
	struct node n = NODE_INIT;
	struct mfs_attr a;
	int r = namespace_get(k->w->ns[k->i % 2], &op, k->files[(unsigned int)rand_r(&k->seed) % FILES], &n);

	if (r < 0)
		return r;
	switch (rand_r(&k->seed) % 12) {
	case 0:
		r = step_rewrite(k, step, &n, true);
		break;
	case 1:
		r = step_rewrite(k, step, &n, false);
		break;
	case 2:
		r = namespace_truncate(k->w->ns[k->i % 2], &op, n.attr.ino, n.attr.lay,
				       step % 5 ? (uint64_t)(rand_r(&k->seed) % 1000) : 0, step % 2, false, &a);
		break;
	default:
		r = step_patch(k, step, &n);
	}
	node_release(&n);
	return r;
}

static void *work(void *arg)
{
	struct worker *k = arg;

	for (unsigned int step = 0; step < k->n && !k->bad; step++) {
		int r = one_step(k, step);

		k->won += r == 0;
		k->lost += r == -EAGAIN;
		if (r < 0 && r != -EAGAIN)
			k->bad = r;
	}
	return NULL;
}

/* Everything that the index says of the file. */
struct seen {
	struct node n;
	struct version_list versions;
	struct dropped_list dropped;
	struct slices_doc_list docs;
};

static void look(struct ns_world *w, mfs_ino_t ino, struct seen *s)
{
	*s = (struct seen){ 0 };
	assert_int_equal(namespace_get(w->ns[0], &w->op, ino, &s->n), 0);
	assert_int_equal(engine_versions_by_ino(w->bare, &w->op, ino, &s->versions), 0);
	assert_int_equal(engine_dropped(w->bare, &w->op, INT64_MAX, 0, SIZE_MAX / 2, &s->dropped), 0);
	assert_int_equal(engine_slices_all(w->bare, &w->op, ino, 0, SIZE_MAX / 2, &s->docs), 0);
}

static void forget(struct seen *s)
{
	node_release(&s->n);
	version_list_release(&s->versions);
	dropped_list_release(&s->dropped);
	slices_doc_list_release(&s->docs);
}

static bool is_named(const struct seen *s, const struct dropped_record *d)
{
	bool named = drops_is_named(d, &(struct content_names){ .ref = &s->n.ref, .slices = &s->n.slices }) == 1;

	for (size_t i = 0; i < s->versions.n && !named; i++)
		named = drops_is_named(d, &(struct content_names){ .slices = &s->versions.v[i].slices }) == 1;
	return named;
}

static bool is_dropped(const struct seen *s, const struct dropped_record *d)
{
	for (size_t i = 0; i < s->dropped.n; i++)
		if (s->dropped.v[i].doc_id == d->doc_id && strcmp(s->dropped.v[i].ref.version, d->ref.version) == 0)
			return true;
	return false;
}

static bool is_stored(const struct seen *s, uint64_t doc_id)
{
	for (size_t i = 0; i < s->docs.n; i++)
		if (s->docs.v[i].id == doc_id && s->docs.v[i].ino == s->n.attr.ino)
			return true;
	return false;
}

static void account(const struct worker *k, unsigned int step, const struct seen *s)
{
	struct dropped_record p = { 0 }, doc = { .doc_id = number(k, step) };
	bool committed = k->fate[step] == COMMITTED;

	snprintf(p.ref.version, sizeof(p.ref.version), "p%" PRIu64, number(k, step));
	if ((is_named(s, &p) || is_dropped(s, &p)) != committed)
		fail_msg("patch object %s: committed %d, named %d, dropped %d", p.ref.version, committed, is_named(s, &p),
			 is_dropped(s, &p));
	if (!k->with_doc[step])
		return;
	if ((is_stored(s, doc.doc_id) != committed && (committed || !k->w->kind->loose)) || (is_named(s, &doc) || is_dropped(s, &doc)) != committed)
		fail_msg("document %" PRIu64 ": committed %d, stored %d, named %d, dropped %d", doc.doc_id, committed,
			 is_stored(s, doc.doc_id), is_named(s, &doc), is_dropped(s, &doc));
}

static void nothing_is_lost(void **state)
{
	struct ns_world *w = *state;
	mfs_ino_t files[FILES];
	struct worker k[THREADS];
	pthread_t threads[THREADS];
	unsigned int n = STEPS, won = 0, lost = 0;

	for (unsigned int i = 0; i < FILES; i++)
		files[i] = mkfile(w, ROOT, fmt("f%u", i));
	ns_world_pause(w);
	for (unsigned int i = 0; i < THREADS; i++) {
		k[i] = (struct worker){ .w = w, .i = i, .n = n, .seed = i + 1, .files = files };
		k[i].fate = calloc(n, 1);
		k[i].with_doc = calloc(n, 1);
		k[i].of = calloc(n, sizeof(*k[i].of));
		assert_true(k[i].fate && k[i].with_doc && k[i].of);
		assert_int_equal(pthread_create(&threads[i], NULL, work, &k[i]), 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(k[i].bad, 0);
		won += k[i].won;
		lost += k[i].lost;
	}
	for (unsigned int f = 0; f < FILES; f++) {
		struct seen s;

		look(w, files[f], &s);
		for (unsigned int i = 0; i < THREADS; i++)
			for (unsigned int step = 0; step < n; step++)
				if (k[i].fate[step] != NOT_STORED && k[i].of[step] == files[f])
					account(&k[i], step, &s);
		forget(&s);
	}
	print_message("%u steps succeeded, %u lost a race\n", won, lost);
	assert_true(won > 0 && (lost > 0 || n < 100));
	for (unsigned int i = 0; i < THREADS; i++) {
		free(k[i].fate);
		free(k[i].with_doc);
		free(k[i].of);
	}
	assert_int_equal(ns_world_check(w), 0);
}

int main(void)
{
	static const struct ns_test tests[] = { NS_TEST(nothing_is_lost) };

	return ns_suite_run("layout race", tests, MFS_ARRAY_LEN(tests));
}
