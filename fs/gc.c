/*
 * Garbage that the index lists: versions and trash whose retention has ended become dropped objects, dropped objects
 * are deleted when they are old enough and nothing names them. And the mount's thread that does it.
 */
#include "fs/gc.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "fs/gc_internal.h"

#define PAGE	   256
#define PERIOD_NS  (10 * MFS_NSEC_PER_SEC)

void gc_found(const struct gc_options *opt, const char *what, const struct object_info *info)
{
	if (opt->found)
		opt->found(opt->arg, what, info);
}

/* Does any record of the inode (in files, trash or versions) name this version? 1, 0 or -errno. */
static int is_named(struct volume *v, struct op_ctx *op, mfs_ino_t ino, const char *version)
{
	struct version_list l = { 0 };
	struct node n = NODE_INIT;
	int r = engine_get(v->engine, op, ino, &n), named = 0;

	if (r < 0 && r != -ESTALE)
		return r;
	if (r == 0) {
		named = !object_ref_is_empty(&n.ref) && strcmp(n.ref.version, version) == 0;
		node_release(&n);
	}
	if (named)
		return 1;
	r = engine_versions_by_ino(v->engine, op, ino, &l);
	for (size_t i = 0; r == 0 && !named && i < l.n; i++)
		named = !object_ref_is_empty(&l.v[i].ref) && strcmp(l.v[i].ref.version, version) == 0;
	version_list_release(&l);
	return r < 0 ? r : named;
}

static struct object_info info_of(const struct object_ref *ref, mfs_ino_t ino, uint64_t size)
{
	struct object_info info = { .ino = ino, .size = size, .own = true };

	memcpy(info.version, ref->version, sizeof(info.version));
	return info;
}

/* --- versions --- */

static int expire_version(struct volume *v, struct op_ctx *op, const struct version_record *rec, int64_t now)
{
	struct dropped_record d = { .ino = rec->ino, .ref = rec->ref, .at = now };
	struct change c = { 0 };

	change_write(&c, WRITE_VERSION_DELETE, 0)->version = rec;
	if (!object_ref_is_empty(&rec->ref))
		change_write(&c, WRITE_DROPPED_PUT, 0)->dropped = &d;
	return engine_apply(v->engine, op, &c);
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
	struct dropped_record d = { .ino = n->attr.ino, .ref = n->ref, .at = now };
	struct change c = { 0 };
	struct write *w = change_write(&c, WRITE_PURGE, n->attr.ino);
	int r;

	w->expect.flags = EXPECT_IN_TRASH | EXPECT_VER;
	w->expect.ver = n->attr.ver;
	if (!object_ref_is_empty(&n->ref))
		change_write(&c, WRITE_DROPPED_PUT, 0)->dropped = &d;
	r = engine_apply(v->engine, op, &c);
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

static int forget_dropped(struct volume *v, struct op_ctx *op, const struct dropped_record *d)
{
	struct change c = { 0 };

	change_write(&c, WRITE_DROPPED_DELETE, 0)->dropped = d;
	return engine_apply(v->engine, op, &c);
}

static int collect_dropped(struct volume *v, struct op_ctx *op, const struct gc_options *opt,
			   const struct dropped_record *d, struct gc_result *ret)
{
	struct object_info info;
	int r = is_named(v, op, d->ino, d->ref.version);

	if (r < 0)
		return r;
	if (r == 1) /* restored, or named by a version still: whoever lets go of it lists it again */
		return opt->delete_it ? forget_dropped(v, op, d) : 0;
	r = object_head(v->store, op, d->ref.bucket, d->ref.key, d->ref.version, &info);
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
	ret->deleted++;
	ret->deleted_bytes += info.size;
	return forget_dropped(v, op, d);
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

		r = engine_dropped(v->engine, op, before, after, PAGE, &l);
		n = l.n;
		/* The change that dropped them is durable before they go: else, after a power loss, the index would name
		 * again what is no more. */
		if (r == 0 && n && opt->delete_it)
			r = engine_sync(v->engine, op);
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			after = l.v[i].id;
			r = collect_dropped(v, op, opt, &l.v[i], ret);
		}
		dropped_list_release(&l);
	} while (r == 0 && n == PAGE && !atomic_load(&op->cancelled));
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
	int last = 0;

	pthread_setname_np(pthread_self(), "collector");
	while (sleep_a_while(c)) {
		struct gc_options opt = { .delete_it = true,
					  .now = mfs_now_ns(),
					  .dropped_age_ns = gc_dropped_age_ns() };
		struct gc_result res = { 0 };
		int r = gc_expire(c->v, &c->op, &opt, &res);

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
	sigset_t all, old;
	int err;

	if (!c)
		return -ENOMEM;
	c->v = v;
	pthread_mutex_init(&c->lock.m, NULL);
	pthread_cond_init(&c->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&c->thread, NULL, collector_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		free(c);
		return -err;
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
