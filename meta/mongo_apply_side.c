/*
 * Writes of side records, and many statements sent as one command.
 *
 * Every statement here can be done twice: puts replace by key, a job keeps the earlier due time, deletes of what is gone are
 * nothing, and a cell is known by its token. So side records need no memory of ids (rule M2).
 */
#include "meta/mongo_apply_internal.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"

#define BATCH_MAX	1000
#define BATCH_BYTES_MAX (8u << 20)
#define DROPPED_RESERVE 256
#define N_SIDE		12 /* collections of side records */

/* --- batches --- */

void mongo_batch_release(struct mongo_batch *b)
{
	if (b->n)
		bson_destroy(&b->items);
	b->n = b->bytes = 0;
}

int mongo_batch_add(struct mongo_batch *b, enum batch_kind kind, bool must_match, const bson_t *item)
{
	const char *key;
	char buf[16];
	int r = 0;

	if (b->n && (b->kind != kind || b->must_match != must_match || b->n >= BATCH_MAX ||
		     b->bytes + item->len > BATCH_BYTES_MAX))
		r = mongo_batch_send(b);
	if (r < 0)
		return r;
	if (b->n == 0)
		bson_init(&b->items);
	b->kind = kind;
	b->must_match = must_match;
	bson_uint32_to_string(b->n++, &key, buf, sizeof(buf));
	b->bytes += item->len;
	return BSON_APPEND_DOCUMENT(&b->items, key, item) ? 0 : -EFBIG;
}

int mongo_batch_send(struct mongo_batch *b)
{
	static const char *const command[] = { "insert", "update", "delete" };
	static const char *const array[] = { "documents", "updates", "deletes" };
	AUTO_BSON bson_t cmd = BSON_INITIALIZER;
	bson_t reply;
	int r;

	if (b->n == 0)
		return 0;
	BSON_APPEND_UTF8(&cmd, command[b->kind], b->collection);
	BSON_APPEND_ARRAY(&cmd, array[b->kind], &b->items);
	BSON_APPEND_BOOL(&cmd, "ordered", true);
	r = mongo_run(b->c, b->flags, &cmd, &reply);
	if (r == 0 && b->must_match && mongo_reply_n(&reply) != b->n)
		r = -EAGAIN;
	bson_destroy(&reply);
	mongo_batch_release(b);
	return r;
}

/* --- one side write --- */

struct side_run {
	struct applying *a;
	unsigned int flags;
	struct mongo_batch batches[N_SIDE]; /* one a collection, so that what is written in order stays in order */
	unsigned int n;
	uint32_t n_dropped; /* that were given a number */
};

static struct mongo_batch *batch_of(struct side_run *s, const char *collection)
{
	for (unsigned int i = 0; i < s->n; i++)
		if (strcmp(s->batches[i].collection, collection) == 0)
			return &s->batches[i];
	s->batches[s->n] = (struct mongo_batch){ .c = s->a->c, .flags = s->flags, .collection = collection };
	return &s->batches[s->n++];
}

/* {q, u: doc, upsert: true} */
static int add_put(struct side_run *s, const char *collection, const bson_t *q, const bson_t *u)
{
	AUTO_BSON bson_t item = BSON_INITIALIZER;

	BSON_APPEND_DOCUMENT(&item, "q", q);
	BSON_APPEND_DOCUMENT(&item, "u", u);
	BSON_APPEND_BOOL(&item, "upsert", true);
	return mongo_batch_add(batch_of(s, collection), BATCH_UPDATE, false, &item);
}

static int add_update(struct side_run *s, const char *collection, const bson_t *q, const bson_t *u)
{
	AUTO_BSON bson_t item = BSON_INITIALIZER;

	BSON_APPEND_DOCUMENT(&item, "q", q);
	BSON_APPEND_DOCUMENT(&item, "u", u);
	return mongo_batch_add(batch_of(s, collection), BATCH_UPDATE, true, &item);
}

static int add_delete(struct side_run *s, const char *collection, const bson_t *q, bool must_match)
{
	AUTO_BSON bson_t item = BSON_INITIALIZER;

	BSON_APPEND_DOCUMENT(&item, "q", q);
	BSON_APPEND_INT32(&item, "limit", 1);
	return mongo_batch_add(batch_of(s, collection), BATCH_DELETE, must_match, &item);
}

static int write_version(struct side_run *s, const struct write *w)
{
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t doc = BSON_INITIALIZER;

	mongo_version_id(w->version->ino, w->version->data, &q);
	if (w->kind == WRITE_VERSION_DELETE)
		return add_delete(s, MONGO_VERSIONS, &q, false);
	mongo_version_put(w->version, &doc);
	return add_put(s, MONGO_VERSIONS, &q, &doc);
}

static uint32_t count_unnumbered(const struct change *c)
{
	uint32_t n = 0;

	for (unsigned int i = 0; i < c->n_writes; i++) {
		const struct write *w = &c->writes[i];

		for (uint32_t k = 0; w->kind == WRITE_DROPPED_PUT && k < write_records(w); k++)
			n += w->dropped[k].id == 0;
	}
	return n;
}

/* Lock is held. The numbers that an earlier attempt gave; 0: not known. */
static uint64_t numbered_before(const struct applying *a, uint32_t n)
{
	const struct mongo_apply *s = a->m->apply;

	for (unsigned int i = 0; a->look && change_has_id(a->ch) && i < MONGO_NUMBERED; i++) {
		const struct mongo_numbered *x = &s->numbered[i];

		if (x->n == n && x->id.session == a->ch->id.session && x->id.number == a->ch->id.number)
			return x->first;
	}
	return 0;
}

/* n numbers in a row of those that are reserved, for this change; false: there are not so many. */
static bool take_numbers(struct applying *a, uint32_t n)
{
	struct mongo_apply *s = a->m->apply;
	MFS_GUARD(&s->lock);

	a->dropped = numbered_before(a, n);
	if (a->dropped)
		return true;
	if (s->left_dropped < n)
		return false;
	a->dropped = s->next_dropped;
	s->next_dropped += n;
	s->left_dropped -= n;
	s->numbered[s->next_numbered++ % MONGO_NUMBERED] =
		(struct mongo_numbered){ .id = a->ch->id, .first = a->dropped, .n = n };
	return true;
}

/* Numbers for the records that have none; many are reserved at a time. */
static int number_dropped(struct applying *a)
{
	struct mongo_apply *s = a->m->apply;
	uint32_t n = count_unnumbered(a->ch), count = MFS_MAX(n, DROPPED_RESERVE);
	uint64_t first;
	int r;

	if (a->dropped)
		return 0;
	while (!take_numbers(a, n)) {
		r = mongo_reserve(a->c, count, &first);
		if (r < 0)
			return r;
		MFS_GUARD(&s->lock);
		if (s->left_dropped < count) {
			s->next_dropped = first;
			s->left_dropped = count;
		}
	}
	return 0;
}

static int write_dropped(struct side_run *s, const struct write *w)
{
	int r = 0;

	if (w->kind == WRITE_DROPPED_DELETE) {
		AUTO_BSON bson_t q = BSON_INITIALIZER;

		mongo_id_put(w->dropped->id, &q);
		return add_delete(s, MONGO_DROPPED, &q, false);
	}
	for (uint32_t i = 0; r == 0 && i < write_records(w); i++) {
		AUTO_BSON bson_t q = BSON_INITIALIZER;
		AUTO_BSON bson_t doc = BSON_INITIALIZER;
		struct dropped_record d = w->dropped[i]; /* borrows */

		if (d.id == 0)
			r = number_dropped(s->a);
		if (r < 0)
			break;
		if (d.id == 0)
			d.id = s->a->dropped + s->n_dropped++;
		mongo_id_put(d.id, &q);
		mongo_dropped_put(&d, &doc);
		r = add_put(s, MONGO_DROPPED, &q, &doc);
	}
	return r;
}

static int write_slices(struct side_run *s, const struct write *w)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < write_records(w); i++) {
		AUTO_BSON bson_t q = BSON_INITIALIZER;
		AUTO_BSON bson_t doc = BSON_INITIALIZER;

		mongo_slices_id(w->slices[i].ino, w->slices[i].id, &q);
		if (w->kind == WRITE_SLICES_DELETE)
			return add_delete(s, MONGO_SLICES, &q, false);
		mongo_slices_put(&w->slices[i], &doc);
		r = add_put(s, MONGO_SLICES, &q, &doc);
	}
	return r;
}

/* Later than the last one given here, and not what another mount gives to the same job at the same microsecond. */
static uint64_t next_token(struct applying *a)
{
	struct mongo_apply *s = a->m->apply;
	uint64_t now = (uint64_t)mfs_now_ns() & ~UINT64_C(0x3ff);
	MFS_GUARD(&s->lock);

	s->last_token = MFS_MAX(s->last_token + 0x400, now | (a->ch->id.session & 0x3ff));
	return s->last_token;
}

/* All fields of a document but those named, into `to`. */
static void copy_but(const bson_t *from, bson_t *to, const char *const *but)
{
	bson_iter_t it;

	if (!bson_iter_init(&it, from))
		return;
	while (bson_iter_next(&it)) {
		const char *const *name = but;

		while (*name && strcmp(*name, bson_iter_key(&it)) != 0)
			name++;
		if (!*name)
			bson_append_iter(to, NULL, 0, &it);
	}
}

static int write_job(struct side_run *s, const struct write *w)
{
	static const char *const apart[] = { "_id", "due", "tries", "token", NULL };
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t doc = BSON_INITIALIZER;
	AUTO_BSON bson_t u = BSON_INITIALIZER;
	bson_t sub;

	mongo_job_id(w->job, &q);
	if (w->kind == WRITE_JOB_DELETE) {
		mongo_put_u64(&q, "token", w->job->token);
		return add_delete(s, MONGO_JOBS, &q, false);
	}
	mongo_job_put(w->job, &doc);
	BSON_APPEND_DOCUMENT_BEGIN(&u, "$set", &sub);
	copy_but(&doc, &sub, apart);
	mongo_put_u64(&sub, "token", next_token(s->a));
	BSON_APPEND_INT64(&sub, "tries", w->job->tries);
	bson_append_document_end(&u, &sub);
	BSON_APPEND_DOCUMENT_BEGIN(&u, "$min", &sub);
	BSON_APPEND_INT64(&sub, "due", w->job->due);
	bson_append_document_end(&u, &sub);
	return add_put(s, MONGO_JOBS, &q, &u);
}

/* Field by field, so that news of it can tell a mere heartbeat. */
static int write_session(struct side_run *s, const struct write *w)
{
	static const char *const id[] = { "_id", NULL };
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t doc = BSON_INITIALIZER;
	AUTO_BSON bson_t u = BSON_INITIALIZER;
	bson_t sub;

	mongo_id_put(w->session->id, &q);
	if (w->kind == WRITE_SESSION_DELETE)
		return add_delete(s, MONGO_SESSIONS, &q, false);
	mongo_session_put(w->session, &doc);
	BSON_APPEND_DOCUMENT_BEGIN(&u, "$set", &sub);
	copy_but(&doc, &sub, id);
	if (!bson_has_field(&doc, "heartbeat"))
		BSON_APPEND_INT64(&sub, "heartbeat", w->session->heartbeat);
	bson_append_document_end(&u, &sub);
	return add_put(s, MONGO_SESSIONS, &q, &u);
}

/* --- cells --- */

static void cell_filter(const struct write *w, bson_t *q)
{
	BSON_APPEND_UTF8(q, "_id", w->cell->name);
	if (w->expect.flags & EXPECT_VER)
		mongo_put_u64(q, "token", w->expect.ver);
}

static int write_cell(struct side_run *s, const struct write *w)
{
	const char *collection = mongo_cell_collection(w->cell->name);
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	AUTO_BSON bson_t doc = BSON_INITIALIZER;
	bool expects = w->expect.flags & EXPECT_VER;

	if (!collection)
		return -EINVAL;
	cell_filter(w, &q);
	if (w->cell->blob.size == 0)
		return add_delete(s, collection, &q, expects);
	mongo_cell_put(w->cell, &doc);
	/* Who changed it, for the news: the token is not a session's. */
	if (change_has_id(s->a->ch))
		mongo_put_u64(&doc, "by", s->a->ch->id.session);
	if (expects && w->expect.ver == 0)
		return mongo_batch_add(batch_of(s, collection), BATCH_INSERT, false, &doc);
	return expects ? add_update(s, collection, &q, &doc) : add_put(s, collection, &q, &doc);
}

/* Is the cell as the write would make it? It was sent before, or libmongoc sent it twice: 0, else -EAGAIN. */
static int cell_is_so(struct applying *a, const struct write *w)
{
	AUTO_BSON bson_t q = BSON_INITIALIZER;
	struct cell_record cell;
	bson_t doc;
	int r;

	BSON_APPEND_UTF8(&q, "_id", w->cell->name);
	r = mongo_find_one(a->c, MONGO_READ, mongo_cell_collection(w->cell->name), &q, NULL, &doc);
	if (r == -ENOENT)
		return w->cell->blob.size == 0 && (a->look || w->expect.ver == 0) ? 0 : -EAGAIN;
	if (r < 0)
		return r;
	r = mongo_cell_parse(&doc, &cell);
	bson_destroy(&doc);
	if (r < 0)
		return r;
	r = w->cell->blob.size && cell.token == w->cell->token ? 0 : -EAGAIN;
	cell_record_release(&cell);
	return r;
}

/* --- all of a change --- */

static int side_one(struct side_run *s, const struct write *w)
{
	switch (w->kind) {
	case WRITE_VERSION_PUT:
	case WRITE_VERSION_DELETE:
		return write_version(s, w);
	case WRITE_DROPPED_PUT:
	case WRITE_DROPPED_DELETE:
		return write_dropped(s, w);
	case WRITE_JOB_PUT:
	case WRITE_JOB_DELETE:
		return write_job(s, w);
	case WRITE_SESSION_PUT:
	case WRITE_SESSION_DELETE:
		return write_session(s, w);
	case WRITE_SLICES_PUT:
	case WRITE_SLICES_DELETE:
		return write_slices(s, w);
	case WRITE_CELL_PUT:
		return write_cell(s, w);
	default:
		return 0;
	}
}

bool mongo_side_precedes(const struct write *w)
{
	return w->kind == WRITE_SLICES_PUT || w->kind == WRITE_VERSION_PUT || w->kind == WRITE_DROPPED_PUT;
}

static int run_batches(struct side_run *s, const struct change *c, bool preceding)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < c->n_writes; i++)
		if (c->writes[i].kind >= WRITE_VERSION_PUT && mongo_side_precedes(&c->writes[i]) == preceding)
			r = side_one(s, &c->writes[i]);
	for (unsigned int i = 0; r == 0 && i < s->n; i++)
		r = mongo_batch_send(&s->batches[i]);
	for (unsigned int i = 0; i < s->n; i++)
		mongo_batch_release(&s->batches[i]);
	return r;
}

int mongo_side_run(struct applying *a, unsigned int flags, bool preceding)
{
	const struct change *c = a->ch;
	struct side_run s = { .a = a, .flags = flags };
	int r = run_batches(&s, c, preceding);

	/* Two upserts of one key: one of them finds it on the next try. A cell that was not there: its expectation. */
	if (r != -EEXIST && r != -EAGAIN)
		return r;
	for (unsigned int i = 0; i < c->n_writes; i++)
		if (!preceding && c->writes[i].kind == WRITE_CELL_PUT) {
			if (flags & MONGO_IN_TXN)
				return -EAGAIN;
			return cell_is_so(a, &c->writes[i]);
		}
	return -EDEADLK;
}
