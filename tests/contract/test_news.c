/*
 * What a mount makes of news: two mounts of one index in one process, each with its inode table, names and newsroom. The
 * notifier is this file's: it writes down what the kernel would have been told.
 */
#include "tests/lib/content_world.h"

#include <semaphore.h>

#include "fs/fs.h"
#include "fs/fuse/notify.h"
#include "fs/names.h"
#include "fs/news.h"
#include "meta/mem_internal.h"

#define LOG_MAX 4096
#define ENTRY_TTL (500 * 1000000LL)

struct told {
	char kind; /* 'a': attributes, 'p': pages too, 'e': an entry, 'A': attributes again, 'E', '*': everything */
	mfs_ino_t ino;
	char name[64];
};

struct mount {
	struct world w;
	struct massfs fs;
	int id; /* stands for the notifier */
};

static struct mount mounts[2];
static struct mfs_mutex told_lock = { .m = PTHREAD_MUTEX_INITIALIZER };
static struct told told[2][LOG_MAX];
static size_t n_told[2];

static void note(struct notifier *n, char kind, mfs_ino_t ino, const char *name, size_t len)
{
	int at = *(int *)(void *)n;
	MFS_GUARD(&told_lock);
	struct told *t = &told[at][n_told[at]];

	if (n_told[at] == LOG_MAX)
		return;
	n_told[at]++;
	t->kind = kind;
	t->ino = ino;
	snprintf(t->name, sizeof(t->name), "%.*s", (int)len, name ? name : "");
}

void notify_inode(struct notifier *n, mfs_ino_t ino, bool data)
{
	note(n, data ? 'p' : 'a', ino, NULL, 0);
}

void notify_entry(struct notifier *n, mfs_ino_t parent, const char *name, size_t len)
{
	note(n, 'e', parent, name, len);
}

void notify_inode_later(struct notifier *n, mfs_ino_t ino)
{
	note(n, 'A', ino, NULL, 0);
}

void notify_entry_later(struct notifier *n, mfs_ino_t parent, const char *name, size_t len)
{
	note(n, 'E', parent, name, len);
}

void notify_all(struct notifier *n)
{
	note(n, '*', 0, NULL, 0);
}

static bool was_told(int at, char kind, mfs_ino_t ino, const char *name)
{
	MFS_GUARD(&told_lock);

	for (size_t i = 0; i < n_told[at]; i++)
		if (told[at][i].kind == kind && told[at][i].ino == ino && !strcmp(told[at][i].name, name))
			return true;
	return false;
}

static size_t told_of(int at, mfs_ino_t ino)
{
	size_t n = 0;
	MFS_GUARD(&told_lock);

	for (size_t i = 0; i < n_told[at]; i++)
		n += told[at][i].ino == ino;
	return n;
}

static void forget_told(void)
{
	MFS_GUARD(&told_lock);

	n_told[0] = n_told[1] = 0;
}

static void pause_ms(int ms)
{
	const struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L };

	nanosleep(&t, NULL);
}

#define WAIT_FOR(cond)                                                \
	do {                                                          \
		int left_ = 5000;                                     \
		while (!(cond) && left_-- > 0)                        \
			pause_ms(1);                                  \
		assert_true(cond);                                    \
	} while (0)

/* All news so far are handled: a marker of a session that nobody has. */
static _Atomic uint64_t marker_seen[2];

static void see_marker(void *arg, const struct news *n)
{
	if (n->kind == NEWS_SESSION)
		atomic_store((_Atomic uint64_t *)arg, n->ino);
}

static void settle_news(void)
{
	static uint64_t marker = 1u << 20;
	char host[] = "marker", dir[] = "";
	struct session_record s = { .id = ++marker, .host = host, .mountpoint = dir, .closed = 1 };
	struct change c = { 0 };

	change_write(&c, WRITE_SESSION_PUT, s.id)->session = &s;
	assert_int_equal(engine_apply(mounts[0].w.vol.engine, &mounts[0].w.op, &c), 0);
	for (int i = 0; i < 2; i++)
		WAIT_FOR(atomic_load(&marker_seen[i]) == marker);
}

static void open_fs(struct mount *m, int id)
{
	struct massfs *fs = &m->fs;

	memset(fs, 0, sizeof(*fs));
	m->id = id;
	fs->cfg = &m->w.cfg;
	fs->vol = &m->w.vol;
	fs->vol->root = MFS_ROOT_INO;
	fs->notifier = (struct notifier *)(void *)&m->id;
	assert_int_equal(inode_table_new(&fs->inodes), 0);
	assert_int_equal(names_new(fs->inodes, 1000, ENTRY_TTL, &fs->names), 0);
	assert_int_equal(news_start(fs, &fs->news), 0);
	assert_non_null(fs->news);
	assert_int_equal(news_listen(fs->news, see_marker, &marker_seen[id]), 0);
}

static int setup(void **state)
{
	struct world_options o = { .store = STORE_MEM, .budget = 64 * MFS_MIB };

	(void)state;
	world_open_opt(&mounts[0].w, &o);
	world_open_second(&mounts[1].w, &mounts[0].w, 64 * MFS_MIB);
	for (int i = 0; i < 2; i++)
		open_fs(&mounts[i], i);
	settle_news();
	forget_told();
	return 0;
}

static struct inode *held; /* open at the moment; still so when a test has failed */

static void let_go(struct inode *i)
{
	struct content *c;

	{
		MFS_GUARD(&i->lock);

		i->n_open = 0;
		c = MFS_TAKE(i->content);
	}
	content_free(c);
	held = NULL;
}

static int teardown(void **state)
{
	(void)state;
	if (held)
		let_go(held);
	for (int i = 1; i >= 0; i--) {
		news_stop(mounts[i].fs.news);
		names_free(mounts[i].fs.names);
		inode_table_free(mounts[i].fs.inodes);
		world_close(&mounts[i].w);
	}
	return 0;
}

#define A (&mounts[0])
#define B (&mounts[1])

/* What the kernel's lookup does: the inode, a ref, taken over and given with its name. */
static struct inode *look(struct mount *m, const char *name, bool *ret_attr, bool *ret_name)
{
	uint64_t epoch = inode_epoch(m->fs.inodes);
	struct entry e = { 0 };
	struct mfs_attr attr;
	struct inode *i;
	bool fresh, known;

	assert_int_equal(namespace_lookup(m->w.vol.ns, &m->w.op, MFS_ROOT_INO, name, strlen(name), &e), 0);
	attr = e.node.attr;
	i = inode_get(m->fs.inodes, attr.ino);
	fresh = inode_take(i, epoch, &attr);
	known = names_put(m->fs.names, epoch, MFS_ROOT_INO, name, strlen(name), attr.ino, e.id);
	entry_release(&e);
	if (ret_attr)
		*ret_attr = fresh;
	if (ret_name)
		*ret_name = known;
	return i;
}

static bool knows(struct mount *m, const char *name)
{
	mfs_ino_t ino;
	uint64_t id;

	return names_get(m->fs.names, MFS_ROOT_INO, name, strlen(name), &ino, &id);
}

static void chmod_at(struct mount *m, mfs_ino_t ino, uint32_t mode)
{
	struct set_attr sa = { .mask = EDIT_MODE, .mode = mode };
	struct mfs_attr attr;

	assert_int_equal(namespace_setattr(m->w.vol.ns, &m->w.op, ino, &sa, &attr), 0);
}

static void rename_at(struct mount *m, const char *from, const char *to)
{
	struct rename_result res = { 0 };

	assert_int_equal(namespace_rename(m->w.vol.ns, &m->w.op, MFS_ROOT_INO, from, strlen(from), MFS_ROOT_INO, to, strlen(to),
					  0, &res),
			 0);
}

static void unlink_at(struct mount *m, const char *name)
{
	struct mfs_attr attr;

	assert_int_equal(namespace_unlink(m->w.vol.ns, &m->w.op, MFS_ROOT_INO, name, strlen(name), &attr), 0);
}

static void write_at(struct mount *m, const char *text)
{
	struct content *c = open_writer(&m->w);

	assert_int_equal(content_truncate(c, &m->w.op, 0, NULL), 0);
	assert_int_equal(content_write(c, &m->w.op, 0, text, strlen(text), false), 0);
	assert_int_equal(content_flush(c, &m->w.op, NULL, NULL), 0);
	content_closed(c);
	close_writer(c);
}

static void attributes_follow(void **state)
{
	struct inode *b = look(B, "file", NULL, NULL), *a = look(A, "file", NULL, NULL);
	struct mfs_attr attr;

	(void)state;
	assert_true(inode_attr(b, &attr));
	chmod_at(A, b->ino, 0600);
	settle_news();
	assert_false(inode_attr(b, &attr));
	assert_true(was_told(1, 'a', b->ino, ""));
	assert_true(was_told(1, 'A', b->ino, "")); /* given just now: the reply may still be on its way */
	assert_true(knows(B, "file"));
	/* The own change costs nothing. */
	assert_true(inode_attr(a, &attr));
	assert_int_equal(told_of(0, a->ino), 0);
	/* Read again, the same news once more (as the authority tells what a hint told) are nothing. */
	inode_put(B->fs.inodes, &b);
	b = look(B, "file", NULL, NULL);
	assert_true(inode_attr(b, &attr));
	assert_int_equal(attr.mode & 0777, 0600);
	inode_put(B->fs.inodes, &b);
	inode_put(A->fs.inodes, &a);
}

static void an_answer_from_before_is_not_kept(void **state)
{
	uint64_t epoch = inode_epoch(B->fs.inodes);
	struct node n = NODE_INIT;
	struct mfs_attr attr;
	struct inode *b;

	(void)state;
	/* The index has answered; before the answer is handed over, news come. The inode is in no table. */
	assert_int_equal(namespace_get(B->w.vol.ns, &B->w.op, B->w.ino, &n), 0);
	attr = n.attr;
	node_release(&n);
	chmod_at(A, B->w.ino, 0601);
	rename_at(A, "file", "other");
	settle_news();
	b = inode_get(B->fs.inodes, B->w.ino);
	assert_false(inode_take(b, epoch, &attr));
	assert_false(inode_attr(b, &attr));
	assert_false(names_put(B->fs.names, epoch, MFS_ROOT_INO, "file", 4, b->ino, b->ino));
	assert_false(names_put(B->fs.names, epoch, MFS_ROOT_INO, "other", 5, 0, 0)); /* "not there" */
	assert_false(knows(B, "file"));
	inode_put(B->fs.inodes, &b);
	/* Who asks from now on is told. */
	b = look(B, "other", NULL, NULL);
	assert_true(inode_attr(b, &attr));
	assert_true(knows(B, "other"));
	inode_put(B->fs.inodes, &b);
}

static void names_follow_a_rename(void **state)
{
	struct inode *b = look(B, "file", NULL, NULL);

	(void)state;
	assert_true(names_put(B->fs.names, inode_epoch(B->fs.inodes), MFS_ROOT_INO, "new", 3, 0, 0));
	assert_true(names_put(B->fs.names, inode_epoch(B->fs.inodes), MFS_ROOT_INO, "else", 4, 0, 0));
	rename_at(A, "file", "new");
	settle_news();
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "file")); /* the events have only the new name */
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "new"));  /* it was known not to be there */
	assert_false(was_told(1, 'e', MFS_ROOT_INO, "else"));
	assert_false(knows(B, "file"));
	assert_false(knows(B, "new"));
	assert_true(knows(B, "else"));
	inode_put(B->fs.inodes, &b);
}

static void names_follow_an_unlink_of_each_kind(void **state)
{
	struct inode *b;
	struct mfs_attr attr;

	(void)state;
	assert_int_equal(namespace_link(A->w.vol.ns, &A->w.op, A->w.ino, MFS_ROOT_INO, "second", 6, &attr), 0);
	assert_int_equal(namespace_link(A->w.vol.ns, &A->w.op, A->w.ino, MFS_ROOT_INO, "third", 5, &attr), 0);
	settle_news();
	b = look(B, "file", NULL, NULL);
	inode_put(B->fs.inodes, &b);
	b = look(B, "second", NULL, NULL);
	/* A listing does not say which alias it is. */
	assert_true(names_put(B->fs.names, inode_epoch(B->fs.inodes), MFS_ROOT_INO, "third", 5, b->ino, 0));
	forget_told();
	unlink_at(A, "second");
	settle_news();
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "second"));
	assert_true(knows(B, "file"));
	unlink_at(A, "third");
	settle_news();
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "third"));
	unlink_at(A, "file");
	settle_news();
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "file"));
	assert_int_equal(names_count(B->fs.names), 0);
	inode_put(B->fs.inodes, &b);
}

static void a_first_name_that_goes_promotes_another(void **state)
{
	struct inode *b;
	struct mfs_attr attr;

	(void)state;
	assert_int_equal(namespace_link(A->w.vol.ns, &A->w.op, A->w.ino, MFS_ROOT_INO, "second", 6, &attr), 0);
	settle_news();
	b = look(B, "file", NULL, NULL);
	inode_put(B->fs.inodes, &b);
	b = look(B, "second", NULL, NULL);
	unlink_at(A, "file");
	settle_news();
	assert_false(knows(B, "file"));
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "file"));
	inode_put(B->fs.inodes, &b);
	b = look(B, "second", NULL, NULL);
	unlink_at(A, "second");
	settle_news();
	assert_false(knows(B, "second"));
	inode_put(B->fs.inodes, &b);
}

/* An open file as fs/fuse/handle.c has it. */
static void hold(struct mount *m, struct inode *i)
{
	MFS_GUARD(&i->lock);

	held = i;
	i->n_open = 1;
	assert_int_equal(content_open(&m->fs.content_env, &m->w.op, i->ino, &i->content), 0);
}

static bool in_trash(struct inode *i)
{
	MFS_GUARD(&i->lock);

	return i->attr.flags & ATTR_IN_TRASH;
}

static void read_back(struct mount *m, struct inode *i, const char *want)
{
	char got[100] = "";

	assert_int_equal(content_read(i->content, &m->w.op, 0, got, sizeof(got) - 1), strlen(want));
	assert_string_equal(got, want);
}

static void open_content_follows(void **state)
{
	struct inode *b;

	(void)state;
	content_env_init(&B->fs.content_env, &B->w.vol, B->w.budget, B->w.uploaders);
	write_at(A, "first");
	settle_news();
	b = look(B, "file", NULL, NULL);
	hold(B, b);
	read_back(B, b, "first");
	{
		MFS_GUARD(&b->lock);

		b->pages = b->attr.data; /* the open: the kernel reads pages from here on */
	}
	forget_told();
	/* Attributes alone move no page. */
	chmod_at(A, b->ino, 0611);
	settle_news();
	assert_true(was_told(1, 'a', b->ino, ""));
	assert_false(was_told(1, 'p', b->ino, ""));
	write_at(A, "second state");
	settle_news();
	assert_true(was_told(1, 'p', b->ino, ""));
	assert_true(b->cache_bad);
	read_back(B, b, "second state");
	/* An own commit leaves own pages good, as long as nobody else was in between. */
	{
		struct content *c = b->content;
		uint64_t data;

		forget_told();
		content_writer_opened(c);
		assert_int_equal(content_write(c, &B->w.op, 0, "SECOND", 6, false), 0);
		assert_int_equal(content_flush(c, &B->w.op, NULL, NULL), 0);
		data = content_pages(c, b->pages);
		assert_true(data > b->pages);
		write_at(A, "third");
		assert_int_equal(content_write(c, &B->w.op, 5, "!", 1, false), 0);
		assert_int_equal(content_flush(c, &B->w.op, NULL, NULL), 0); /* over A's: its bytes are not in our pages */
		assert_int_equal(content_pages(c, data), data);
		settle_news();
		assert_true(was_told(1, 'p', b->ino, ""));
		read_back(B, b, "third!");
		content_writer_closed(c);
	}
	let_go(b);
	inode_put(B->fs.inodes, &b);
	content_env_release(&B->fs.content_env);
}

static bool is_opener(struct mount *m, mfs_ino_t ino)
{
	struct node n = NODE_INIT;
	bool is;

	assert_int_equal(namespace_get(A->w.vol.ns, &A->w.op, ino, &n), 0);
	is = node_blob_has_u64(&n.openers, atomic_load(&m->w.vol.engine->session));
	node_release(&n);
	return is;
}

static void an_open_file_removed_elsewhere_stays(void **state)
{
	struct inode *b;

	(void)state;
	content_env_init(&B->fs.content_env, &B->w.vol, B->w.budget, B->w.uploaders);
	write_at(A, "still here");
	settle_news();
	b = look(B, "file", NULL, NULL);
	hold(B, b);
	unlink_at(A, "file");
	WAIT_FOR(is_opener(B, b->ino));
	assert_false(is_opener(A, b->ino));
	read_back(B, b, "still here");
	WAIT_FOR(in_trash(b)); /* so that its last close says so */
	let_go(b);
	assert_int_equal(namespace_closed(B->w.vol.ns, &B->w.op, b->ino), 0);
	assert_false(is_opener(B, b->ino));
	inode_put(B->fs.inodes, &b);
	content_env_release(&B->fs.content_env);
}

static void a_rename_makes_nobody_an_opener(void **state)
{
	struct inode *b = look(B, "file", NULL, NULL);

	(void)state;
	content_env_init(&B->fs.content_env, &B->w.vol, B->w.budget, B->w.uploaders);
	hold(B, b);
	rename_at(A, "file", "moved");
	settle_news();
	pause_ms(50);
	assert_false(is_opener(B, b->ino));
	let_go(b);
	inode_put(B->fs.inodes, &b);
	content_env_release(&B->fs.content_env);
}

static void silence_ends_belief(void **state)
{
	struct inode *b = look(B, "file", NULL, NULL);
	uint64_t epoch = inode_epoch(B->fs.inodes);
	struct news_stats st;
	struct mfs_attr attr;
	int64_t begun;

	(void)state;
	assert_true(massfs_live(&B->fs));
	mem_news_mute(B->w.shared, B->w.vol.engine, true);
	begun = mfs_mono_ns();
	WAIT_FOR(!massfs_live(&B->fs));
	assert_true(mfs_mono_ns() - begun < 900 * 1000000LL);
	assert_true(massfs_live(&A->fs));
	WAIT_FOR(was_told(1, '*', 0, ""));
	assert_false(inode_attr(b, &attr));
	assert_false(knows(B, "file"));
	assert_false(names_put(B->fs.names, epoch, MFS_ROOT_INO, "file", 4, b->ino, b->ino));
	chmod_at(A, b->ino, 0622);
	inode_put(B->fs.inodes, &b);
	b = look(B, "file", NULL, NULL); /* asked for while deaf */
	assert_true(inode_attr(b, &attr));
	chmod_at(A, b->ino, 0633);
	mem_news_mute(B->w.shared, B->w.vol.engine, false); /* what was missed comes as one NEWS_LOST */
	WAIT_FOR(massfs_live(&B->fs));
	assert_false(inode_attr(b, &attr)); /* live means: what is wrong has been taken back */
	news_stats(B->fs.news, &st);
	assert_true(st.live && st.lost == 1 && st.silences == 1);
	inode_put(B->fs.inodes, &b);
}

static sem_t gate;

static void wait_at_gate(void *arg, const struct news *n)
{
	(void)arg;
	if (n->kind == NEWS_CELL)
		sem_wait(&gate);
}

/* More than the queue takes, while it is not read: the same as lost. */
static void a_full_queue_counts_as_lost(void **state)
{
	struct inode *b = look(B, "file", NULL, NULL);
	char name[] = "locks/1", host[] = "", dir[] = "";
	struct cell_record cell = { .name = name, .token = 1 };
	struct session_record s = { .id = 77, .host = host, .mountpoint = dir, .closed = 1 };
	struct change c = { 0 };
	struct mfs_attr attr;

	(void)state;
	sem_init(&gate, 0, 0);
	assert_int_equal(news_listen(B->fs.news, wait_at_gate, NULL), 0);
	cell.blob.data = name;
	cell.blob.size = 1;
	change_write(&c, WRITE_CELL_PUT, 0)->cell = &cell;
	assert_int_equal(engine_apply(A->w.vol.engine, &A->w.op, &c), 0);
	for (int i = 0; i < 66000; i++) {
		struct change x = { 0 };

		change_write(&x, WRITE_SESSION_PUT, s.id)->session = &s;
		assert_int_equal(engine_apply(A->w.vol.engine, &A->w.op, &x), 0);
	}
	chmod_at(A, b->ino, 0644);
	assert_false(massfs_live(&B->fs));
	sem_post(&gate);
	WAIT_FOR(massfs_live(&B->fs));
	assert_false(inode_attr(b, &attr));
	assert_true(was_told(1, '*', 0, ""));
	settle_news();
	inode_put(B->fs.inodes, &b);
	sem_destroy(&gate);
}

static void names_are_bounded(void **state)
{
	char name[20];
	size_t refused = 0;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		int len = snprintf(name, sizeof(name), "n%d", i);

		refused += !names_put(B->fs.names, inode_epoch(B->fs.inodes), MFS_ROOT_INO, name, (size_t)len, 0, 0);
	}
	assert_int_equal(names_count(B->fs.names), 1000);
	assert_int_equal(refused, 2000); /* the kernel believes all of the others yet */
	pause_ms(600);
	for (int i = 0; i < 3000; i++) {
		int len = snprintf(name, sizeof(name), "m%d", i);

		if (i < 900)
			assert_true(names_put(B->fs.names, inode_epoch(B->fs.inodes), MFS_ROOT_INO, name, (size_t)len, (mfs_ino_t)i + 7, (mfs_ino_t)i + 7));
	}
	assert_true(names_count(B->fs.names) <= 1000);
}

/* What this mount does itself: older answers do not come back over it. */
static void own_changes_pass_older_answers(void **state)
{
	uint64_t before = inode_epoch(A->fs.inodes);

	(void)state;
	assert_true(names_made(A->fs.names, before, MFS_ROOT_INO, "x", 1, 100, 100));
	assert_false(names_put(A->fs.names, before, MFS_ROOT_INO, "x", 1, 0, 0)); /* a lookup that was slower than the create */
	assert_true(knows(A, "x"));
	before = inode_epoch(A->fs.inodes);
	names_drop(A->fs.names, MFS_ROOT_INO, "x", 1);
	assert_false(names_put(A->fs.names, before, MFS_ROOT_INO, "x", 1, 100, 100));
	assert_false(knows(A, "x"));
	assert_true(names_put(A->fs.names, inode_epoch(A->fs.inodes), MFS_ROOT_INO, "x", 1, 0, 0));
}

static enum names_say ask(const char *name, mfs_ino_t ino, uint64_t id, pid_t who)
{
	struct names_asked q = { .epoch = inode_epoch(B->fs.inodes), .at = mfs_mono_ns(), .who = who };

	return names_look(B->fs.names, &q, MFS_ROOT_INO, name, strlen(name), ino, id);
}

static void kernel_forgets(const char *name, uint64_t mark)
{
	names_forgotten(B->fs.names, mark, MFS_ROOT_INO, name, strlen(name));
}

/* A record's new name is kept only when the kernel has forgotten the old one. */
static void a_second_name_waits_for_the_first(void **state)
{
	uint64_t before = names_mark(B->fs.names);

	(void)state;
	assert_int_equal(ask("old", 70, 70, 1), NAMES_KEPT);
	assert_int_equal(ask("link", 70, 71, 1), NAMES_KEPT); /* another record of the same inode */
	assert_int_equal(ask("new", 70, 70, 1), NAMES_TWICE);
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "old"));
	assert_false(was_told(1, 'e', MFS_ROOT_INO, "link"));
	assert_false(knows(B, "old"));
	assert_false(knows(B, "new"));
	kernel_forgets("old", before); /* a notice from before it was given */
	assert_int_equal(ask("new", 70, 70, 2), NAMES_TWICE);
	assert_int_equal(names_ghosts(B->fs.names), 1);
	kernel_forgets("old", names_mark(B->fs.names));
	assert_int_equal(ask("new", 70, 70, 2), NAMES_KEPT);
	assert_int_equal(names_ghosts(B->fs.names), 0);
	/* The same of one that was given no time: it is its caller's only. */
	names_once(B->fs.names, &(struct names_asked){ .who = 5 }, MFS_ROOT_INO, "once", 4, 80, 80);
	assert_int_equal(ask("other", 80, 80, 5), NAMES_TWICE);
	assert_int_equal(ask("other", 80, 80, 6), NAMES_KEPT);
}

/* What this mount does itself makes no ghosts; what it failed to do does, and so does the loss of everything. */
static void what_makes_ghosts(void **state)
{
	struct names *n = B->fs.names;

	(void)state;
	assert_int_equal(ask("a", 70, 70, 1), NAMES_KEPT);
	names_drop(n, MFS_ROOT_INO, "a", 1); /* renamed to b */
	assert_true(names_made(n, inode_epoch(B->fs.inodes), MFS_ROOT_INO, "b", 1, 70, 70));
	assert_int_equal(ask("b", 70, 70, 1), NAMES_KEPT);
	assert_true(names_made(n, inode_epoch(B->fs.inodes), MFS_ROOT_INO, "l", 1, 70, NAMES_SOME_ALIAS)); /* linked */
	assert_int_equal(ask("b", 70, 70, 1), NAMES_KEPT);
	assert_int_equal(ask("l", 70, 72, 1), NAMES_KEPT);
	assert_int_equal(names_ghosts(n), 0);
	names_unsure(n, MFS_ROOT_INO, "b", 1);
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "b"));
	assert_int_equal(ask("c", 70, 70, 1), NAMES_TWICE);
	assert_int_equal(ask("d", 90, 90, 1), NAMES_KEPT);
	names_lost(n, NULL, NULL);
	assert_false(was_told(1, 'e', MFS_ROOT_INO, "d"));
	assert_int_equal(ask("e", 90, 90, 1), NAMES_TWICE);
	assert_true(was_told(1, 'e', MFS_ROOT_INO, "d")); /* now that it matters */
	assert_int_equal(ask("d", 91, 91, 1), NAMES_KEPT); /* another one by that name: the old one still counts */
	assert_int_equal(ask("e", 90, 90, 1), NAMES_TWICE);
	pause_ms((int)(ENTRY_TTL / 1000000) + 1100);
	assert_int_equal(ask("e", 90, 90, 1), NAMES_KEPT);
}

static void a_refusal_is_remembered_once(void **state)
{
	struct names *n = B->fs.names;

	(void)state;
	assert_false(names_refused(n, 5, 70));
	assert_true(names_refused(n, 5, 70));
	assert_false(names_refused(n, 5, 70));
	assert_false(names_refused(n, 5, 71));
	assert_false(names_refused(n, 5, 70));
	pause_ms(350);
	assert_false(names_refused(n, 5, 70));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(attributes_follow),
		T(an_answer_from_before_is_not_kept),
		T(names_follow_a_rename),
		T(names_follow_an_unlink_of_each_kind),
		T(a_first_name_that_goes_promotes_another),
		T(open_content_follows),
		T(an_open_file_removed_elsewhere_stays),
		T(a_rename_makes_nobody_an_opener),
		T(silence_ends_belief),
		T(a_full_queue_counts_as_lost),
		T(names_are_bounded),
		T(own_changes_pass_older_answers),
		T(a_second_name_waits_for_the_first),
		T(what_makes_ghosts),
		T(a_refusal_is_remembered_once),
	};

	return cmocka_run_group_tests_name("news", tests, NULL, NULL);
}
