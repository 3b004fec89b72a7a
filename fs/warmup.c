/*
 * Warming and evicting: the walk through a tree, several files at once, and the thread for what nobody waits for.
 */
#include "fs/warmup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "common/sync.h"
#include "common/workers.h"
#include "fs/block_cache.h"
#include "fs/snapshot.h"

#define PAGE	   256
#define READERS	   8
#define READ_SIZE  ((size_t)2 << 20) /* a second block is fetched beside the first */
#define WAITING	   64 /* jobs of the background */
#define READ_TRIES 3 /* the record again, when its object is gone */

struct run {
	struct volume *v;
	struct op_ctx *op;
	const struct warmup_options *opt;
	struct workers *readers;
	struct mfs_mutex lock; /* guards res */
	struct warmup_result res;
};

struct file_job {
	struct run *run;
	mfs_ino_t ino;
};

static bool is_cancelled(struct run *x)
{
	return atomic_load(&x->op->cancelled);
}

static void tell(struct run *x, int r, uint64_t bytes)
{
	MFS_GUARD(&x->lock);
	x->res.bytes += bytes;
	if (r == 0) {
		x->res.files++;
	} else if (r == -EACCES) {
		x->res.denied++;
	} else if (r != -ESTALE && r != -ECANCELED) { /* removed meanwhile: nothing to do */
		x->res.failed++;
		x->res.error = x->res.error ? x->res.error : r;
	}
}

/* --- one file --- */

static int read_through(struct run *x, struct snapshot *s, uint64_t *ret_bytes)
{
	uint64_t size = snapshot_size(s), off = 0, run;
	MFS_AUTOFREE char *buf = malloc(MFS_MAX(MFS_MIN((uint64_t)READ_SIZE, size), UINT64_C(1)));
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && off < size) {
		bool hole = snapshot_is_hole(s, off, &run);

		if (is_cancelled(x))
			return -ECANCELED;
		if (!run)
			break;
		if (!hole) {
			run = MFS_MIN(run, (uint64_t)READ_SIZE);
			r = snapshot_read(s, x->op, off, buf, (size_t)run);
			*ret_bytes += r == 0 ? run : 0;
		}
		off += run;
	}
	return r;
}

static int warm_file(struct run *x, const struct node *n, uint64_t *ret_bytes)
{
	struct snapshot *s = NULL;
	int r = snapshot_of_node(x->v, x->op, n, &s);

	*ret_bytes = 0;
	if (r == 0)
		r = read_through(x, s, ret_bytes);
	snapshot_free(s);
	return r;
}

/* Without a cache of ours: the operating system's, of the store's own file. */
static void evict_object(struct run *x, const struct object_ref *ref, uint64_t size)
{
	int fd;

	if (x->v->cache) {
		block_cache_evict(x->v->cache, ref, size);
	} else if (object_store_caps(x->v->store) & OBJECT_CAP_FD) {
		fd = object_open_fd(x->v->store, x->op, ref);
		if (fd < 0)
			return;
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
}

static int evict_file(struct run *x, const struct node *n, uint64_t *ret_bytes)
{
	struct layout l;
	int r;

	*ret_bytes = n->attr.size;
	if (!object_ref_is_empty(&n->ref))
		evict_object(x, &n->ref, n->attr.obj_len);
	layout_init(&l);
	r = layout_parse(&n->slices, &l);
	for (size_t i = 0; i < l.n_segments && r == 0; i++) {
		struct object_ref ref = { 0 };

		r = layout_segment_ref(&l.segments[i], &ref);
		if (r == 0)
			evict_object(x, &ref, l.segments[i].len);
		object_ref_release(&ref);
	}
	layout_release(&l);
	if (x->opt->dropped)
		x->opt->dropped(x->opt->arg, n->attr.ino);
	return r;
}

/* The record may have moved on to other objects while the old ones were read. */
static void do_file(struct run *x, mfs_ino_t ino)
{
	uint64_t bytes = 0;
	int r = -ENOENT;

	for (unsigned int i = 0; i < READ_TRIES && r == -ENOENT && !is_cancelled(x); i++) {
		struct node n = NODE_INIT;

		r = namespace_get(x->v->ns, x->op, ino, &n);
		if (r == 0)
			r = namespace_access(&n, &x->opt->cred, R_OK);
		if (r == 0)
			r = x->opt->evict ? evict_file(x, &n, &bytes) : warm_file(x, &n, &bytes);
		node_release(&n);
	}
	tell(x, r == -ENOENT ? -EIO : r, bytes);
}

static void file_main(void *arg)
{
	struct file_job *job = arg;

	if (!is_cancelled(job->run))
		do_file(job->run, job->ino);
	free(job);
}

static void submit_file(struct run *x, mfs_ino_t ino)
{
	struct file_job *job = malloc(sizeof(*job));

	if (job) {
		*job = (struct file_job){ .run = x, .ino = ino };
		if (workers_submit(x->readers, file_main, job) == 0)
			return;
		free(job);
	}
	do_file(x, ino);
}

/* --- a tree --- */

struct level {
	mfs_ino_t dir;
	uint64_t after;
};

struct stack {
	struct level *v;
	size_t n, cap;
};

static int push(struct stack *s, mfs_ino_t dir)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct level *v = realloc(s->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = (struct level){ .dir = dir };
	return 0;
}

static int may_enter(struct run *x, mfs_ino_t dir)
{
	struct node n = NODE_INIT;
	int r = namespace_get(x->v->ns, x->op, dir, &n);

	if (r == 0)
		r = namespace_access(&n, &x->opt->cred, R_OK | X_OK);
	node_release(&n);
	return r;
}

/* -EACCES, -ENOENT and -ESTALE of one directory are that one's. */
static int enter(struct run *x, struct stack *s, mfs_ino_t dir)
{
	int r = may_enter(x, dir);

	if (r == -EACCES)
		tell(x, r, 0);
	if (r == -EACCES || r == -ENOENT || r == -ESTALE)
		return 0;
	return r < 0 ? r : push(s, dir);
}

static int do_page(struct run *x, struct stack *s, const struct node_list *l)
{
	int r = 0;

	for (size_t i = 0; i < l->n && r == 0 && !is_cancelled(x); i++) {
		if (attr_is_dir(&l->v[i].attr))
			r = enter(x, s, l->v[i].attr.ino);
		else if (attr_is_reg(&l->v[i].attr))
			submit_file(x, l->v[i].attr.ino);
	}
	return r;
}

static void report(struct run *x)
{
	struct warmup_result res;

	if (!x->opt->progress)
		return;
	{
		MFS_GUARD(&x->lock);
		res = x->res;
	}
	x->opt->progress(x->opt->arg, res.files, res.bytes);
}

static int do_tree(struct run *x, mfs_ino_t dir)
{
	struct stack s = { 0 };
	int r = enter(x, &s, dir);

	while (s.n && r == 0 && !is_cancelled(x)) {
		struct node_list l = NODE_LIST_INIT;
		struct level *top = &s.v[s.n - 1];

		r = namespace_list(x->v->ns, x->op, top->dir, top->after, PAGE, &l);
		if (r == -ENOENT || r == -ESTALE || r == -ENOTDIR) {
			s.n--;
			r = 0;
		} else if (r == 0 && l.n == 0) {
			s.n--;
		} else if (r == 0) {
			top->after = l.v[l.n - 1].pos;
			r = do_page(x, &s, &l);
		}
		node_list_release(&l);
		report(x);
	}
	free(s.v);
	return r;
}

static void wait_for_readers(struct run *x)
{
	while (x->opt->progress && workers_pending(x->readers)) {
		report(x);
		usleep(20000);
	}
	workers_drain(x->readers);
}

int warmup_run(struct volume *v, struct op_ctx *op, mfs_ino_t ino, const struct warmup_options *opt,
	       struct warmup_result *ret)
{
	struct run x = { .v = v, .op = op, .opt = opt };
	struct node n = NODE_INIT;
	int r = workers_new(opt->evict ? "evict" : "warmup", READERS, 2 * READERS, &x.readers);

	if (r < 0)
		return r;
	pthread_mutex_init(&x.lock.m, NULL);
	r = namespace_get(v->ns, op, ino, &n);
	if (r == 0 && attr_is_dir(&n.attr))
		r = do_tree(&x, ino);
	else if (r == 0 && attr_is_reg(&n.attr))
		submit_file(&x, ino);
	node_release(&n);
	wait_for_readers(&x);
	report(&x);
	workers_free(x.readers);
	pthread_mutex_destroy(&x.lock.m);
	*ret = x.res;
	return r == 0 && is_cancelled(&x) ? -ECANCELED : r;
}

/* --- in the background --- */

struct warmer {
	struct volume *v;
	struct op_ctx op; /* cancelled: stopping */
	struct workers *workers; /* one thread */
};

struct tree_job {
	struct warmer *w;
	mfs_ino_t ino;
	struct mfs_cred cred; /* groups behind it */
	gid_t groups[];
};

static void tree_main(void *arg)
{
	struct tree_job *job = arg;
	struct warmup_options opt = { .cred = job->cred };
	struct warmup_result res = { 0 };
	int r = -ECANCELED;

	opt.cred.groups = job->groups;
	if (!atomic_load(&job->w->op.cancelled))
		r = warmup_run(job->w->v, &job->w->op, job->ino, &opt, &res);
	if ((r < 0 && r != -ECANCELED) || res.failed)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"warmup of inode %" PRIu64 ": %" PRIu64 " files read, %" PRIu64 " failed: %s",
			job->ino, res.files, res.failed, strerror(r < 0 ? -r : -res.error));
	free(job);
}

int warmer_start(struct volume *v, struct warmer **ret)
{
	struct warmer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->v = v;
	r = workers_new("warmer", 1, WAITING, &w->workers);
	if (r < 0) {
		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

int warmer_submit(struct warmer *w, mfs_ino_t ino, const struct mfs_cred *cred)
{
	struct tree_job *job = malloc(sizeof(*job) + cred->n_groups * sizeof(gid_t));
	int r;

	if (!job)
		return -ENOMEM;
	*job = (struct tree_job){ .w = w, .ino = ino, .cred = *cred };
	if (cred->n_groups)
		memcpy(job->groups, cred->groups, cred->n_groups * sizeof(gid_t));
	r = workers_try_submit(w->workers, tree_main, job);
	if (r < 0)
		free(job);
	return r;
}

uint64_t warmer_pending(struct warmer *w)
{
	return w ? workers_pending(w->workers) : 0;
}

void warmer_stop(struct warmer *w)
{
	if (!w)
		return;
	atomic_store(&w->op.cancelled, true);
	workers_free(w->workers);
	free(w);
}
