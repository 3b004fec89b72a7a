/*
 * What a change touches: marks for the values that it makes old, keys for Redis to forget, news for other mounts; and the
 * thread that hears theirs.
 *
 * A hint only ever makes values old and callers look again: one that is late, repeated or lost does no harm, and one that
 * does not verify is not looked at.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"
#include "meta/redis_internal.h"

/* --- marks --- */

static void mark_name(struct redis_engine *e, mfs_ino_t parent, const struct mfs_name *name, uint64_t id)
{
	if (!parent || !name || !name->len)
		return;
	if (id)
		floors_mark_number(e->floors, floors_name(parent, name), FLOORS_SAME, id);
	else
		floors_mark(e->floors, floors_name(parent, name));
}

/*
 * The news of an own change come after its own mark, and what was read since has its ver: that may be used on. Not so with
 * changes of others: some (EDIT_NO_BUMP_VER) leave the ver as it is.
 */
void redis_mark_news(struct redis_engine *e, const struct news *n)
{
	bool own = !n->hint && n->session && n->session == e->base.session;

	switch (n->kind) {
	case NEWS_RECORD:
		if (own && n->ver)
			floors_mark_number(e->floors, floors_record(n->ino), FLOORS_AT_LEAST, n->ver);
		else
			floors_mark(e->floors, floors_record(n->ino));
		break;
	case NEWS_ALIAS:
	case NEWS_GONE:
		floors_mark(e->floors, floors_record(n->ino));
		break;
	case NEWS_LOST:
		floors_mark_all(e->floors);
		return;
	case NEWS_CELL:
	case NEWS_SESSION:
	case NEWS_SIDE:
		return;
	}
	if (n->tags)
		redis_mark_tags(e, n->tags);
	mark_name(e, n->parent, n->name, n->kind == NEWS_GONE ? 0 : n->ino);
	if (n->parent)
		floors_mark(e->floors, floors_pages(n->parent));
}

/* --- a change as news --- */

static struct hint *add_hint(struct redis_note *note, enum news_kind kind, mfs_ino_t ino)
{
	struct hint *h;

	if (note->hints.n == REDIS_HINTS_MAX)
		return NULL;
	h = &note->hints.v[note->hints.n++];
	h->news = (struct news){ .kind = kind, .ino = ino };
	h->name.len = 0;
	h->cell[0] = '\0';
	return h;
}

static void set_name(struct hint *h, mfs_ino_t parent, const struct mfs_name *name)
{
	h->news.parent = parent;
	h->name = *name;
	h->news.name = &h->name;
}

static void add_record(struct redis_note *note, const struct write *w, mfs_ino_t ino, bool named)
{
	struct hint *h = add_hint(note, NEWS_RECORD, ino);

	if (!h)
		return;
	if (named && w->node->parent)
		set_name(h, w->node->parent, &w->node->name);
	if (w->ret_attr) {
		h->news.ver = w->ret_attr->ver;
		h->news.data = w->ret_attr->data;
		h->news.lay = w->ret_attr->lay;
	}
}

static void add_gone(struct redis_note *note, const struct write *w)
{
	struct hint *h = add_hint(note, NEWS_GONE, w->ino);

	if (h && (w->expect.flags & EXPECT_NAME) && w->expect.parent && w->expect.name)
		set_name(h, w->expect.parent, w->expect.name);
}

static void add_alias(struct redis_note *note, const struct write *w)
{
	struct hint *h = add_hint(note, NEWS_ALIAS, w->ino ? w->ino : w->alias->id);

	if (!h)
		return;
	set_name(h, w->alias->parent, &w->alias->name);
	h->news.target = w->alias->target;
}

static void add_cell(struct redis_note *note, const struct write *w)
{
	struct hint *h = strlen(w->cell->name) < sizeof(h->cell) ? add_hint(note, NEWS_CELL, 0) : NULL;

	if (!h)
		return;
	strcpy(h->cell, w->cell->name);
	h->news.cell = h->cell;
}

static void add_write(struct redis_note *note, const struct write *w)
{
	switch (w->kind) {
	case WRITE_EDIT:
		add_record(note, w, w->ino, false);
		break;
	case WRITE_INSERT:
	case WRITE_RENAME:
	case WRITE_UNTRASH:
		add_record(note, w, w->ino ? w->ino : w->node->attr.ino, true);
		break;
	case WRITE_DELETE:
	case WRITE_TRASH:
	case WRITE_PURGE:
	case WRITE_ALIAS_DELETE:
		add_gone(note, w);
		break;
	case WRITE_ALIAS_INSERT:
	case WRITE_ALIAS_RENAME:
		add_alias(note, w);
		break;
	case WRITE_CELL_PUT:
		add_cell(note, w);
		break;
	default:
		break;
	}
}

static void add_dir(struct redis_note *note, mfs_ino_t dir)
{
	for (size_t i = 0; i < note->n_dirs; i++)
		if (note->dirs[i] == dir)
			return;
	if (dir && note->n_dirs < REDIS_HINTS_MAX)
		note->dirs[note->n_dirs++] = dir;
}

static void describe(struct redis_note *note, const struct change *c)
{
	for (unsigned int i = 0; i < c->n_writes; i++) {
		add_write(note, &c->writes[i]);
		redis_tags_of_write(&c->writes[i], &note->tags);
	}
	for (unsigned int i = 0; i < c->n_touches; i++) {
		const struct mfs_attr *a = c->touches[i].ret_attr;
		struct hint *h = add_hint(note, NEWS_RECORD, c->touches[i].dir);

		if (h && a) {
			h->news.ver = a->ver;
			h->news.data = a->data;
			h->news.lay = a->lay;
		}
		add_dir(note, c->touches[i].dir);
	}
	for (size_t i = 0; i < note->hints.n; i++)
		add_dir(note, note->hints.v[i].news.parent);
	note->hints.session = c->id.session;
}

void redis_mark_change(struct redis_engine *e, const struct change *c, bool tell)
{
	struct redis_note *note = calloc(1, sizeof(*note));

	if (!note) { /* what cannot be told apart is all marked */
		floors_mark_all(e->floors);
		return;
	}
	describe(note, c);
	redis_mark_tags(e, &note->tags);
	for (size_t i = 0; i < note->hints.n; i++) {
		struct news n = note->hints.v[i].news;

		n.hint = true;
		redis_mark_news(e, &n);
	}
	if (tell && note->hints.n && e->up)
		redis_queue(e, note);
	else
		free(note);
}

/* --- telling --- */

#define KEYS_MAX (3 * REDIS_HINTS_MAX + REDIS_TOLD_TAGS)

int redis_send_note(struct redis_engine *e, struct redis_request *q, struct redis_note *note)
{
	MFS_AUTOBUF struct mfs_buf message = MFS_BUF_INIT(REDIS_HINT_BYTES);
	MFS_AUTOFREE char *keys = malloc((size_t)KEYS_MAX * REDIS_KEY_MAX);
	const char *argv[3 + KEYS_MAX + 4];
	size_t lens[3 + KEYS_MAX + 4];
	char n_values[12], ttl[12];
	redisReply *reply = NULL;
	unsigned int n = 0;
	int argc = 3, r;

	if (!keys)
		return -ENOMEM;
#define KEY(i) (keys + (size_t)(i)*REDIS_KEY_MAX)
	for (size_t i = 0; i < note->hints.n; i++) {
		const struct hint *h = &note->hints.v[i];

		if (h->news.kind == NEWS_CELL)
			continue;
		redis_key_record(KEY(n++), q->prefix, h->news.ino);
		if (h->news.parent && h->name.len)
			redis_key_name(KEY(n++), q->prefix, h->news.parent, &h->name);
	}
	snprintf(n_values, sizeof(n_values), "%u", n);
	for (size_t i = 0; i < note->n_dirs; i++)
		redis_key_pages(KEY(n++), q->prefix, note->dirs[i]);
	for (size_t i = 0; i < note->tags.n && note->tags.n <= REDIS_TOLD_TAGS; i++)
		redis_key_tag(KEY(n++), q->prefix, note->tags.v[i]);
	for (unsigned int i = 0; i < n; i++, argc++) {
		argv[argc] = KEY(i);
		lens[argc] = strlen(KEY(i));
	}
#undef KEY
	note->hints.instance = e->instance;
	note->hints.epoch = q->epoch;
	r = hints_put(&message, &note->hints);
	if (r == 0)
		r = redis_seal_put(redis_request_seal(q), e->channel, &message);
	if (r < 0)
		return r;
	snprintf(ttl, sizeof(ttl), "%d", REDIS_TOMB_MS);
	argv[argc] = n_values;
	lens[argc++] = strlen(n_values);
	argv[argc] = ttl;
	lens[argc++] = strlen(ttl);
	argv[argc] = e->channel;
	lens[argc++] = strlen(e->channel);
	argv[argc] = message.data;
	lens[argc++] = message.len;
	r = redis_run(e, q, SCRIPT_TELL, n, argc, argv, lens, 1, &reply);
	if (r == 0) {
		freeReplyObject(reply);
		e->hints_sent++;
	}
	return r;
}

/* --- hearing --- */

void redis_pass_news(struct redis_engine *e, const struct news *n)
{
	engine_news_fn fn;
	void *arg;
	{
		MFS_GUARD(&e->watch_lock);
		fn = e->watch_fn;
		arg = e->watch_arg;
		if (!fn)
			return;
		e->watch_users++;
	}
	fn(arg, n);
	MFS_GUARD(&e->watch_lock);
	if (--e->watch_users == 0)
		pthread_cond_broadcast(&e->watch_idle);
}

static void take_message(struct redis_engine *e, struct redis_seal *seal, const redisReply *m, struct hints *h)
{
	size_t len;

	if (m->type != REDIS_REPLY_STRING || m->len > REDIS_HINT_BYTES ||
	    !redis_seal_holds(seal, e->channel, m->str, m->len, &len) || hints_get(m->str, len, h) < 0) {
		e->bad++;
		return;
	}
	if (h->instance == e->instance)
		return;
	e->hints_seen++;
	{
		MFS_GUARD(&e->lock);
		if (h->epoch > e->epoch && e->has_keys && !e->look_again) {
			e->look_again = true;
			pthread_cond_broadcast(&e->wake);
		}
	}
	for (size_t i = 0; i < h->n; i++) {
		redis_mark_news(e, &h->v[i].news);
		redis_pass_news(e, &h->v[i].news);
	}
}

static int subscribe(struct redis_engine *e, struct redis_conn *c)
{
	const char *argv[2] = { "SUBSCRIBE", e->channel };
	size_t lens[2] = { 9, strlen(e->channel) };
	int r = redis_conn_put(c, 2, argv, lens);

	return r < 0 ? r : redis_conn_flush(c, mfs_mono_ns() + REDIS_COMMAND_NS);
}

static bool stopping(struct redis_engine *e)
{
	MFS_GUARD(&e->lock);

	return e->stop;
}

static bool is_push(const redisReply *m, const char *what)
{
	return m->type == REDIS_REPLY_ARRAY && m->elements == 3 && m->element[0]->type == REDIS_REPLY_STRING &&
	       !strcmp(m->element[0]->str, what);
}

static void listen_on(struct redis_engine *e, struct redis_conn *c, struct hints *h)
{
	uint64_t gen = c->line;
	int r = subscribe(e, c);

	while (r == 0 && !stopping(e)) {
		redisReply *m = NULL;

		redis_conn_wait(c, e->wake_fd, 1000);
		while ((r = redis_conn_poll(c, &m)) == 0 && m) {
			if (is_push(m, "message"))
				take_message(e, c->seal, m->element[2], h);
			else if (is_push(m, "subscribe"))
				e->listening = true;
			else if (m->type == REDIS_REPLY_ERROR)
				r = -EIO; /* not allowed to subscribe: tried again now and then */
			freeReplyObject(m);
			m = NULL;
			if (r < 0)
				break;
		}
		MFS_GUARD(&e->lock);
		if (gen != e->secret_gen)
			r = -EAGAIN;
	}
}

static void pause_listener(struct redis_engine *e)
{
	int64_t until = mfs_mono_ns() + MFS_NSEC_PER_SEC / 2;
	struct timespec ts = mfs_ns_to_timespec(until);
	bool up;
	MFS_GUARD(&e->lock);

	up = e->up;
	while (!e->stop && mfs_mono_ns() < until && (up || !e->up))
		pthread_cond_timedwait(&e->wake, &e->lock.m, &ts);
}

void *redis_listener(void *arg)
{
	struct redis_engine *e = arg;
	struct hints *h = calloc(1, sizeof(*h));

	while (h && !stopping(e)) {
		struct redis_conn *c = NULL;

		if (redis_open_extra(e, &c) == 0) {
			listen_on(e, c, h);
			e->listening = false;
			redis_conn_drop(c);
		}
		if (!stopping(e))
			pause_listener(e);
	}
	free(h);
	return NULL;
}
