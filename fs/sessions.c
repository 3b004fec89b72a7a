/* The session of this mount: begun, kept by a heartbeat, lost and begun again, ended. fs/sessions.h has the rules. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "fs/sessions_internal.h"
#include "meta/locks.h"

#define BEAT_NS	  MFS_NSEC_PER_SEC
#define WORD_SIZE 9 /* a letter and a number */
#define CLOSE_NS  (5 * MFS_NSEC_PER_SEC)

/* --- cells --- */

void session_cell_name(char name[CELL_NAME], uint64_t session)
{
	snprintf(name, CELL_NAME, SESSION_CELLS "%" PRIu64, session);
}

int session_cell_write(struct cell_record *cell, const char *name, enum cell_word word, uint64_t who, uint64_t expect,
		       struct change *c)
{
	unsigned char *at = malloc(WORD_SIZE);
	struct write *w;
	int r;

	*cell = (struct cell_record){ .name = strdup(name), .blob = { .data = at, .size = WORD_SIZE } };
	if (!cell->name || !at)
		return -ENOMEM;
	r = cell_token(&cell->token);
	if (r < 0)
		return r;
	at[0] = (unsigned char)word;
	for (int i = 0; i < 8; i++)
		at[1 + i] = (unsigned char)(who >> 8 * i);
	w = change_write(c, WRITE_CELL_PUT, 0);
	w->cell = cell;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = expect;
	return 0;
}

bool session_cell_read(const struct cell_record *cell, enum cell_word *ret_word, uint64_t *ret_who)
{
	const unsigned char *at = cell->blob.data;

	if (cell->blob.size != WORD_SIZE || !strchr("LDR", at[0]) || !at[0])
		return false;
	*ret_word = (enum cell_word)at[0];
	*ret_who = 0;
	for (int i = 0; i < 8; i++)
		*ret_who |= (uint64_t)at[1 + i] << 8 * i;
	return true;
}

int sessions_alive(struct engine *e, struct op_ctx *op, uint64_t session)
{
	struct cell_record cell = { 0 };
	enum cell_word word;
	char name[CELL_NAME];
	uint64_t who;
	int r;

	session_cell_name(name, session);
	r = engine_cell_get(e, op, name, &cell);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = session_cell_read(&cell, &word, &who) && word == CELL_LIVE;
	cell_record_release(&cell);
	return r;
}

/* --- the own one --- */

static struct session_record record_of(const struct sessions *s, uint64_t session, char host[65], bool closed)
{
	const struct volume *v = s->v;
	struct session_record r = {
		.id = session,
		.host = host,
		.mountpoint = (char *)(uintptr_t)(v->cfg->mountpoint && v->mode == VOLUME_MOUNT ? v->cfg->mountpoint : ""),
		.pid = (uint32_t)getpid(),
		.started = s->started,
		.heartbeat = mfs_now_ns(),
	};

	memset(host, 0, 65);
	if (gethostname(host, 64) < 0)
		strcpy(host, "localhost");
	r.closed = closed ? r.heartbeat : 0;
	return r;
}

/* A new number, its record and its cell. */
static int begin(struct sessions *s, struct op_ctx *op)
{
	struct volume *v = s->v;
	struct cell_record cell = { 0 };
	struct change c = { .durable = true };
	struct session_record rec;
	int64_t began = sessions_boot_ns();
	char name[CELL_NAME], host[65];
	uint64_t session;
	int r = engine_reserve(v->engine, op, 1, &session);

	if (r < 0)
		return r;
	s->started = s->recorded = mfs_now_ns();
	rec = record_of(s, session, host, false);
	session_cell_name(name, session);
	/* Its own first change: known again if the reply is lost. */
	c.id = (struct op_id){ .session = session, .number = atomic_fetch_add(&v->engine->next_number, 1) + 1 };
	change_write(&c, WRITE_SESSION_PUT, session)->session = &rec;
	r = session_cell_write(&cell, name, CELL_LIVE, session, 0, &c);
	if (r == 0)
		r = engine_apply(v->engine, op, &c);
	if (r == 0) {
		s->token = cell.token;
		v->session = session;
		v->engine->session = session;
		atomic_store(&s->confirmed, began);
	}
	cell_record_release(&cell);
	return r;
}

bool sessions_sure(struct sessions *s)
{
	int64_t confirmed = atomic_load(&s->confirmed);

	/* Somebody else's clock began no earlier than ours; the rest is for clocks that go at different speeds. */
	return confirmed && sessions_boot_ns() - confirmed < s->death_ns - s->lease_ns / 20;
}

bool lease_hold(struct volume *v, enum lease_role role)
{
	struct sessions *s = v->sessions;

	return !s || (atomic_load(&s->held[role]) && sessions_sure(s));
}

/* A turn (docs/locking.md, rule 9): what is hooked may wait. */
void sessions_call(struct sessions *s, void (*how)(struct sessions *s, const struct sessions_hooks *h, uint64_t before),
		   uint64_t before)
{
	struct sessions_hooks h;

	{
		MFS_GUARD(&s->lock);

		h = s->hooks;
		s->calling = true;
	}
	how(s, &h, before);
	MFS_GUARD(&s->lock);
	s->calling = false;
	pthread_cond_broadcast(&s->wake);
}

void sessions_hook(struct sessions *s, const struct sessions_hooks *hooks)
{
	MFS_GUARD(&s->lock);

	while (s->calling)
		pthread_cond_wait(&s->wake, &s->lock.m);
	s->hooks = hooks ? *hooks : (struct sessions_hooks){ 0 };
}

static void call_lost(struct sessions *s, const struct sessions_hooks *h, uint64_t before)
{
	(void)s;
	if (h->lost)
		h->lost(h->arg, before);
}

static void call_renewed(struct sessions *s, const struct sessions_hooks *h, uint64_t before)
{
	if (h->renewed)
		h->renewed(h->arg, before, s->v->session);
}

static void call_work(struct sessions *s, const struct sessions_hooks *h, uint64_t before)
{
	(void)s;
	(void)before;
	if (h->work)
		h->work(h->arg);
}

void sessions_call_work(struct sessions *s)
{
	sessions_call(s, call_work, 0);
}

/* Another mount took this one for dead. */
static int lost(struct sessions *s, struct op_ctx *op)
{
	uint64_t before = s->v->session;
	int r;

	atomic_store(&s->confirmed, 0);
	for (int i = 0; i < LEASE_ROLES; i++)
		atomic_store(&s->held[i], false);
	mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
		"session %" PRIu64 " gave no sign of life for longer than lease= (%" PRId64 " s) and was closed by another mount: its locks "
		"are lost, files it had locked give EIO until they are opened again; going on as a new session",
		before, s->lease_ns / MFS_NSEC_PER_SEC);
	sessions_call(s, call_lost, before);
	r = begin(s, op);
	if (r == 0)
		sessions_call(s, call_renewed, before);
	return r;
}

/* The index has another token than ours: of an earlier heartbeat whose answer was lost (1), or we are dead (0). */
static int find_token(struct sessions *s, struct op_ctx *op)
{
	struct cell_record cell = { 0 };
	enum cell_word word;
	char name[CELL_NAME];
	uint64_t who;
	int r;

	session_cell_name(name, s->v->session);
	r = engine_cell_get(s->v->engine, op, name, &cell);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = session_cell_read(&cell, &word, &who) && word == CELL_LIVE && who == s->v->session;
	if (r)
		s->token = cell.token;
	cell_record_release(&cell);
	return r;
}

static int resolve(struct sessions *s, struct op_ctx *op)
{
	int r = find_token(s, op);

	return r == 0 ? lost(s, op) : MFS_MIN(r, 0);
}

static int beat(struct sessions *s, struct op_ctx *op)
{
	struct cell_record cell = { 0 };
	struct change c = { 0 };
	int64_t began = sessions_boot_ns();
	char name[CELL_NAME], host[65];
	struct session_record rec = record_of(s, s->v->session, host, false);
	int r;

	/* In the record too, for people and for tools, but not each time: one write is cheaper than two. */
	if (rec.heartbeat - s->recorded >= s->lease_ns / 4 || rec.heartbeat < s->recorded)
		change_write(&c, WRITE_SESSION_PUT, rec.id)->session = &rec;
	session_cell_name(name, s->v->session);
	r = session_cell_write(&cell, name, CELL_LIVE, s->v->session, s->token, &c);
	if (r == 0)
		r = engine_apply(s->v->engine, op, &c);
	if (r == 0) {
		s->recorded = c.n_writes > 1 ? rec.heartbeat : s->recorded;
		s->token = cell.token;
		atomic_store(&s->confirmed, began);
	}
	cell_record_release(&cell);
	return r == -EAGAIN ? resolve(s, op) : r;
}

int sessions_step(struct sessions *s, struct op_ctx *op)
{
	int r = beat(s, op);

	return r < 0 ? r : sessions_look(s, op);
}

/* --- the thread --- */

static bool sleep_until(struct sessions *s, int64_t at)
{
	struct timespec ts = mfs_ns_to_timespec(at);
	MFS_GUARD(&s->lock);

	while (!s->stopping)
		if (pthread_cond_clockwait(&s->wake, &s->lock.m, CLOCK_MONOTONIC, &ts) == ETIMEDOUT)
			break;
	return !s->stopping;
}

static void tell(struct sessions *s, int r)
{
	if (r < 0 && r != -ECANCELED && !s->silent)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"session %" PRIu64 ": no heartbeat (%s); tried again every second; after lease= (%" PRId64
			" s) other mounts take this one for dead",
			s->v->session, strerror(-r), s->lease_ns / MFS_NSEC_PER_SEC);
	else if (r == 0 && s->silent)
		mfs_log(MFS_LOG_FS, MFS_LOG_INFO, NULL, "session %" PRIu64 ": heartbeat again", s->v->session);
	if (r != -ECANCELED)
		s->silent = r < 0;
}

static void *run(void *arg)
{
	struct sessions *s = arg;
	int64_t next = mfs_mono_ns() + s->beat_ns;

	pthread_setname_np(pthread_self(), "session");
	while (sleep_until(s, next)) {
		next = mfs_mono_ns() + s->beat_ns;
		s->op.deadline_ns = mfs_mono_ns() + s->lease_ns / 2;
		tell(s, sessions_step(s, &s->op));
	}
	return NULL;
}

static int start_thread(struct sessions *s)
{
	int r;

	r = mfs_thread_start(&s->thread, run, s);
	s->has_thread = r == 0;
	return r;
}

static void release(struct sessions *s)
{
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock.m);
	free(s->seen);
	free(s);
}

int sessions_begin(struct volume *v, struct op_ctx *op, bool heartbeat, struct sessions **ret)
{
	struct sessions *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->v = v;
	s->lease_ns = v->cfg->lease_ns > 0 ? v->cfg->lease_ns : 10 * MFS_NSEC_PER_SEC;
	s->beat_ns = MFS_MIN(BEAT_NS, s->lease_ns / 5);
	s->death_ns = s->lease_ns - 2 * s->beat_ns;
	pthread_mutex_init(&s->lock.m, NULL);
	pthread_cond_init(&s->wake, NULL);
	r = begin(s, op);
	if (r == 0)
		r = sessions_look(s, op);
	if (r == 0 && heartbeat)
		r = start_thread(s);
	if (r < 0) {
		release(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* The record is closed and the cell goes, unless somebody took us for dead meanwhile and does the same. */
static int end(struct sessions *s, struct op_ctx *op)
{
	struct volume *v = s->v;
	char name[CELL_NAME], host[65];
	struct session_record rec = record_of(s, v->session, host, true);
	struct cell_record gone = { .name = name };
	struct change c = { .durable = true };
	struct write *w;

	session_cell_name(name, v->session);
	change_write(&c, WRITE_SESSION_PUT, v->session)->session = &rec;
	w = change_write(&c, WRITE_CELL_PUT, 0);
	w->cell = &gone;
	w->expect.flags = EXPECT_VER;
	w->expect.ver = s->token;
	return engine_apply(v->engine, op, &c);
}

void sessions_end(struct sessions *s)
{
	struct op_ctx op = { .deadline_ns = mfs_mono_ns() + CLOSE_NS };
	int r;

	if (!s)
		return;
	{
		MFS_GUARD(&s->lock);

		s->stopping = true;
		atomic_store(&s->op.cancelled, true);
		pthread_cond_broadcast(&s->wake);
	}
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	sessions_drop_leases(s, &op);
	r = end(s, &op);
	if (r == -EAGAIN) /* a heartbeat whose answer was lost; or others have closed it, which is as good */
		r = find_token(s, &op) == 1 ? end(s, &op) : 0;
	if (r < 0)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, &op, "session %" PRIu64 " could not be closed (%s); another mount does it after lease=",
			s->v->session, strerror(-r));
	release(s);
}
