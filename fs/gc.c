/*
 * Garbage that the index lists: versions and trash whose retention has ended become dropped objects, dropped objects
 * are deleted when they are old enough and nothing names them. And the mount's thread that does it.
 */
#include "fs/gc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/crash_point.h"
#include "common/log.h"
#include "common/thread.h"
#include "fs/gc_internal.h"
#include "fs/leases.h"
#include "fs/reconcile_kept.h"
#include "meta/drops.h"

#define PAGE	   256
#define DROPPED_PAGE 4096 /* what an expired version of a much changed file may leave fits several times */
#define PERIOD_NS  (10 * MFS_NSEC_PER_SEC)
#define KEPT_TURNS 60 /* of these, until unfinished uploads of what is no more are looked for */

void gc_found(const struct gc_options *opt, const char *what, const struct object_info *info)
{
	if (opt->found)
		opt->found(opt->arg, what, info);
}

static struct object_info info_of(const struct object_ref *ref, mfs_ino_t ino, uint64_t size)
{
	struct object_info info = { .ino = ino, .size = size, .own = true };

	memcpy(info.version, ref->version, sizeof(info.version));
	return info;
}

/* --- versions --- */

/*
 * All that a state names, for `dropped`. Of one whose slices cannot be read (logged) only the object: it goes for good, and
 * what it may have named is found by the walk over the store.
 */
static int list_state(struct dropped_list *l, mfs_ino_t ino, int64_t now, const struct object_ref *ref,
		      const struct node_blob *slices)
{
	struct content_names names = { .ref = ref, .slices = slices };
	int r = drops_add(l, ino, now, &names, NULL);

	if (r != -EUCLEAN)
		return r;
	names.slices = NULL;
	return drops_add(l, ino, now, &names, NULL);
}

static int expire_version(struct volume *v, struct op_ctx *op, const struct version_record *rec, int64_t now)
{
	struct dropped_list l = { 0 };
	struct change c = { 0 };
	int r = list_state(&l, rec->ino, now, &rec->ref, &rec->slices);

	if (r == 0) {
		change_write(&c, WRITE_VERSION_DELETE, 0)->version = rec;
		drops_write(&c, &l);
		r = engine_apply(v->engine, op, &c);
	}
	dropped_list_release(&l);
	if (r == 0)
		mfs_crash_point("gc.expired");
	return r;
}

static int expire_versions(struct volume *v, struct op_ctx *op, const struct gc_options *opt,
			   struct gc_result *ret)
{
	/* Looking only, one call must see them all: there is no cursor, and nothing goes away between pages. */
	size_t limit = opt->delete_it ? PAGE : SIZE_MAX / 2, n;
	int r;

	do {
		struct version_list l = { 0 };

		r = engine_versions_expired(v->engine, op, opt->now, limit, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			struct object_info info = info_of(&l.v[i].ref, l.v[i].ino, l.v[i].obj_len);

			gc_found(opt, "expired version", &info);
			ret->expired_versions++;
			if (opt->delete_it)
				r = expire_version(v, op, &l.v[i], opt->now);
		}
		version_list_release(&l);
	} while (r == 0 && opt->delete_it && n == PAGE && !atomic_load(&op->cancelled));
	return r;
}

/* --- trash --- */

/* Is it open in a session that lives? */
static bool has_opener(struct volume *v, const struct node *n, const struct session_list *sessions)
{
	if (v->hooks.is_open && v->hooks.is_open(v->hooks.arg, n->attr.ino))
		return true;
	for (size_t i = 0; i < sessions->n; i++)
		if (!sessions->v[i].closed && node_blob_has_u64(&n->openers, sessions->v[i].id))
			return true;
	return false;
}

static int purge(struct volume *v, struct op_ctx *op, const struct node *n, int64_t now)
{
	struct dropped_list l = { 0 };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_PURGE, n->attr.ino);
	int r = list_state(&l, n->attr.ino, now, &n->ref, &n->slices);

	w->expect.flags = EXPECT_IN_TRASH | EXPECT_VER;
	w->expect.ver = n->attr.ver;
	drops_write(&c, &l);
	if (r == 0)
		r = engine_apply(v->engine, op, &c);
	dropped_list_release(&l);
	if (r == 0)
		mfs_crash_point("gc.purged");
	/* Undeleted, committed to or purged meanwhile: the next round looks again. */
	return r == -EAGAIN || r == -ESTALE ? 0 : r;
}

static int expire_trash(struct volume *v, struct op_ctx *op, const struct gc_options *opt,
			struct gc_result *ret)
{
	/* Trash is never purged before what was dropped. */
	int64_t keep = MFS_MAX(v->cfg ? v->cfg->retention_ns : 0, gc_dropped_age_ns()), before;
	struct session_list sessions = { 0 };
	struct node_list l = NODE_LIST_INIT;
	/* Those that are held open come again at the head of each page: so one round, of all there are, up to a bound. */
	size_t limit = opt->delete_it ? 10000 : SIZE_MAX / 2;
	int r;

	/* A mount that has it open says so as soon as it hears of the unlink, or is dead. */
	if (v->sessions && v->cfg)
		keep = MFS_MAX(keep, v->cfg->lease_ns);
	if (__builtin_sub_overflow(opt->now, keep, &before))
		return 0;
	r = engine_sessions(v->engine, op, &sessions);
	if (r == 0)
		r = engine_trash_before(v->engine, op, before, limit, &l);
	for (size_t i = 0; r == 0 && i < l.n && !atomic_load(&op->cancelled); i++) {
		const struct node *n = &l.v[i];
		struct object_info info = info_of(&n->ref, n->attr.ino, n->attr.obj_len);

		if (has_opener(v, n, &sessions))
			continue;
		gc_found(opt, "expired trash", &info);
		ret->expired_trash++;
		if (opt->delete_it)
			r = purge(v, op, n, opt->now);
	}
	node_list_release(&l);
	session_list_release(&sessions);
	return r;
}

/* --- dropped --- */

/* shared: the object's list, which goes with it; NULL: the object stays. */
static int forget_dropped(struct volume *v, struct op_ctx *op, const struct dropped_record *d, struct cell_record *shared)
{
	struct change c = { 0 };
	int r;

	change_write(&c, WRITE_DROPPED_DELETE, 0)->dropped = d;
	if (shared)
		gc_unshare(&c, shared);
	r = engine_apply(v->engine, op, &c);
	return r == -EAGAIN ? 0 : r; /* another collector was there: the next round sees */
}

static int collect_object(struct volume *v, struct op_ctx *op, const struct gc_options *opt,
			  const struct dropped_record *d, struct cell_record *shared, struct gc_result *ret)
{
	struct object_info info;
	int r = object_head(v->store, op, d->ref.bucket, d->ref.key, d->ref.version, &info);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT)
		info = info_of(&d->ref, d->ino, 0);
	gc_found(opt, "dropped", &info);
	ret->dropped++;
	ret->dropped_bytes += info.size;
	if (!opt->delete_it)
		return 0;
	r = object_delete_version(v->store, op, &d->ref);
	if (r < 0) {
		ret->failed++;
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, op,
			"gc key=%s version=%s not deleted: %s; tried again later", d->ref.key, d->ref.version,
			strerror(-r));
		return 0;
	}
	mfs_crash_point("gc.deleted");
	ret->deleted++;
	ret->deleted_bytes += info.size;
	return forget_dropped(v, op, d, shared);
}

/* A slices document goes in one change with its entry. */
static int collect_doc(struct volume *v, struct op_ctx *op, const struct gc_options *opt, const struct dropped_record *d,
		       struct gc_result *ret)
{
	struct slices_doc_record doc = { .ino = d->ino, .id = d->doc_id };
	struct object_info info = { .ino = d->ino, .own = true };
	struct change c = { 0 };
	int r;

	snprintf(info.version, sizeof(info.version), "%" PRIu64, d->doc_id);
	gc_found(opt, "dropped slices", &info);
	ret->dropped_docs++;
	if (!opt->delete_it)
		return 0;
	change_write(&c, WRITE_SLICES_DELETE, 0)->slices = &doc;
	change_write(&c, WRITE_DROPPED_DELETE, 0)->dropped = d;
	r = engine_apply(v->engine, op, &c);
	ret->deleted_docs += r == 0;
	return r;
}

static int collect_dropped(struct volume *v, struct op_ctx *op, const struct gc_options *opt, struct gc_names *names,
			   const struct dropped_record *d, struct gc_result *ret)
{
	bool is_doc = object_ref_is_empty(&d->ref);
	MFS_CLEANUP(cell_record_release) struct cell_record shared = { 0 };
	int named, r = gc_names_read(v, op, d->ino, names);

	if (r < 0)
		return r;
	named = is_doc ? gc_names_doc(names, d->doc_id) : gc_names_version(names, d->ref.version);
	if (names->all) /* fsck first */
		return 0;
	if (!named && !is_doc)
		named = gc_shared(v, op, d->ref.version, &shared);
	if (named < 0)
		return named;
	if (named) /* by a state that shares it: whoever lets go of it lists it again */
		return opt->delete_it ? forget_dropped(v, op, d, NULL) : 0;
	return is_doc ? collect_doc(v, op, opt, d, ret) : collect_object(v, op, opt, d, &shared, ret);
}

static int by_inode(const void *a, const void *b)
{
	const struct dropped_record *x = a, *y = b;

	return x->ino != y->ino ? (x->ino > y->ino) - (x->ino < y->ino) : (x->id > y->id) - (x->id < y->id);
}

/* What is found while the turn is held: told after it, as whoever listens may be slow. */
struct findings {
	struct finding {
		const char *what;
		struct object_info info;
	} *v;
	size_t n, cap;
};

static void keep_finding(void *arg, const char *what, const struct object_info *info)
{
	struct findings *l = arg;

	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct finding *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v) /* it is counted all the same */
			return;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = (struct finding){ what, *info };
}

static void tell_findings(const struct gc_options *opt, struct findings *l)
{
	for (size_t i = 0; i < l->n; i++)
		gc_found(opt, l->v[i].what, &l->v[i].info);
	l->n = 0;
}

/* Names are read after the page: none in it can have been let go of later. */
static int collect_page(struct volume *v, struct op_ctx *op, const struct gc_options *opt, struct dropped_list *l,
			struct gc_result *ret)
{
	struct gc_options quiet = *opt;
	struct findings found = { 0 };
	struct gc_names names = { 0 };
	int r = 0;

	quiet.found = opt->found ? keep_finding : NULL;
	quiet.arg = &found;
	qsort(l->v, l->n, sizeof(*l->v), by_inode); /* an inode's records are read once for all that is its own */
	for (size_t i = 0, end; r == 0 && i < l->n; i = end) {
		names.ino = 0; /* read within the turn */
		past_turn_take(&v->past);
		for (end = i; r == 0 && end < l->n && l->v[end].ino == l->v[i].ino; end++)
			r = atomic_load(&op->cancelled) ? -ECANCELED : collect_dropped(v, op, &quiet, &names, &l->v[end], ret);
		past_turn_release(&v->past);
		tell_findings(opt, &found);
	}
	free(found.v);
	gc_names_release(&names);
	return r;
}

static int expire_dropped(struct volume *v, struct op_ctx *op, const struct gc_options *opt,
			  struct gc_result *ret)
{
	int64_t before;
	uint64_t after = 0;
	size_t n;
	int r = 0;

	if (__builtin_sub_overflow(opt->now, opt->dropped_age_ns, &before))
		return 0;
	do {
		struct dropped_list l = { 0 };

		r = engine_dropped(v->engine, op, before, after, DROPPED_PAGE, &l);
		n = l.n;
		/* The change that dropped them is durable before they go: else, after a power loss, the index would name
		 * again what is no more. */
		if (r == 0 && n && opt->delete_it)
			r = engine_sync(v->engine, op);
		if (r == 0 && n) {
			after = l.v[n - 1].id;
			r = collect_page(v, op, opt, &l, ret);
		}
		dropped_list_release(&l);
	} while (r == 0 && n == DROPPED_PAGE);
	return r;
}

int gc_expire(struct volume *v, struct op_ctx *op, const struct gc_options *opt, struct gc_result *ret)
{
	int r = expire_versions(v, op, opt, ret);

	if (r == 0)
		r = expire_trash(v, op, opt, ret);
	return r < 0 ? r : expire_dropped(v, op, opt, ret);
}

/* --- the thread --- */

struct collector {
	struct volume *v;
	pthread_t thread;
	struct op_ctx op; /* cancelled: the thread ends */
	struct mfs_mutex lock;
	pthread_cond_t wake; /* `lock`; predicate: stopping */
	bool stopping; /* guarded by lock */
};

static bool sleep_a_while(struct collector *c)
{
	struct timespec ts = mfs_ns_to_timespec(mfs_mono_ns() + PERIOD_NS);

	MFS_GUARD(&c->lock);
	while (!c->stopping)
		if (pthread_cond_clockwait(&c->wake, &c->lock.m, CLOCK_MONOTONIC, &ts) == ETIMEDOUT)
			break;
	return !c->stopping;
}

static void *collector_main(void *arg)
{
	struct collector *c = arg;
	unsigned int turns = 0;
	int last = 0;

	pthread_setname_np(pthread_self(), "collector");
	while (sleep_a_while(c)) {
		struct gc_options opt = { .delete_it = true,
					  .now = mfs_now_ns(),
					  .dropped_age_ns = gc_dropped_age_ns() };
		struct gc_result res = { 0 };
		bool mine = lease_hold(c->v, LEASE_GC);
		int r = mine ? gc_expire(c->v, &c->op, &opt, &res) : 0;

		if (r == 0 && mine && ++turns % KEPT_TURNS == 0)
			r = kept_expire(c->v, &c->op);
		if (r == 0 && mine)
			r = namespace_demands_run(c->v->ns, &c->op, opt.now);
		if (r < 0 && r != -ECANCELED && r != last)
			mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
				"gc of what has expired: %s; tried again every 10 s", strerror(-r));
		last = r;
		if (res.deleted)
			mfs_debug(MFS_LOG_FS, NULL, "gc deleted=%" PRIu64 " bytes=%" PRIu64, res.deleted,
				  res.deleted_bytes);
	}
	return NULL;
}

int collector_start(struct volume *v, struct collector **ret)
{
	struct collector *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->v = v;
	pthread_mutex_init(&c->lock.m, NULL);
	pthread_cond_init(&c->wake, NULL);
	r = mfs_thread_start(&c->thread, collector_main, c);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void collector_stop(struct collector *c)
{
	if (!c)
		return;
	{
		MFS_GUARD(&c->lock);

		c->stopping = true;
		atomic_store(&c->op.cancelled, true);
		pthread_cond_signal(&c->wake);
	}
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock.m);
	free(c);
}
