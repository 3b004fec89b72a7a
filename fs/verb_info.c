/*
 * info: one file as the index and the store have it. status: the volume and its mount.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "fs/block_cache.h"
#include "fs/file_locks.h"
#include "fs/leases.h"
#include "fs/fs.h"
#include "fs/index_log.h"
#include "fs/reconcile.h"
#include "fs/verbs_internal.h"

/* --- info --- */

struct info {
	const struct node *n;
	const char *path, *shown, *state;
	size_t n_versions;
	bool dirty;
};

static const char *state_name(enum file_state s)
{
	switch (s) {
	case FILE_EMPTY:
		return "empty";
	case FILE_SETTLED:
		return "settled";
	case FILE_SPARSE:
		return "sparse";
	case FILE_INLINE:
		return "inline";
	case FILE_PATCHED:
		return "patched";
	case FILE_PENDING:
		break;
	}
	return "pending";
}

/* Is there data in the daemon that no commit has taken yet? */
static bool is_dirty(struct verb_call *call, mfs_ino_t ino)
{
	struct inode *i = call->fs ? inode_find(call->fs->inodes, ino) : NULL;
	bool dirty = false;

	if (!i)
		return false;
	{
		MFS_GUARD(&i->lock);

		if (i->content)
			dirty = content_is_dirty(i->content);
	}
	inode_put(call->fs->inodes, &i);
	return dirty;
}

static void print_info_json(struct verb_call *call, const struct info *x)
{
	FILE *f = call->out;
	const struct node *n = x->n;
	const struct mfs_attr *a = &n->attr;
	bool first = true;

	fputc('{', f);
	json_number(f, &first, "ino", a->ino);
	json_text(f, &first, "path", x->path);
	json_text(f, &first, "type", verb_type_name(a->mode));
	json_number(f, &first, "size", a->size);
	json_number(f, &first, "mode", a->mode & 07777u);
	json_number(f, &first, "uid", a->uid);
	json_number(f, &first, "gid", a->gid);
	json_number(f, &first, "nlink", a->nlink);
	json_time(f, &first, "mtime", a->mtime);
	json_time(f, &first, "ctime", a->ctime);
	json_time(f, &first, "btime", a->btime);
	if (x->state) {
		json_text(f, &first, "state", x->state);
		json_bool(f, &first, "dirty", x->dirty);
		json_text(f, &first, "key", n->ref.key);
		json_text(f, &first, "version", n->ref.key ? n->ref.version : NULL);
		json_number(f, &first, "object_length", a->obj_len);
		json_number(f, &first, "allocated", a->alloc);
		verb_layout_json(call, &first, n);
		json_text(f, &first, "mime", n->mime);
		json_text(f, &first, "hash", n->hash[0] ? n->hash : NULL);
	}
	if (n->symlink)
		json_text(f, &first, "target", n->symlink);
	json_number(f, &first, "ver", a->ver);
	json_number(f, &first, "data", a->data);
	json_number(f, &first, "lay", a->lay);
	json_number(f, &first, "versions", x->n_versions);
	json_number(f, &first, "xattrs", n->n_xattrs);
	fputs("}\n", f);
}

static void print_info(struct verb_call *call, const struct info *x)
{
	FILE *f = call->out;
	const struct node *n = x->n;
	const struct mfs_attr *a = &n->attr;
	char size[24], time[40], user[40];

	fprintf(f, "path:      %s\n", x->shown);
	fprintf(f, "inode:     %" PRIu64 "  (%s, mode %04o, owner %s, links %u)\n", a->ino,
		verb_type_name(a->mode), a->mode & 07777u, verb_user_name(a->uid, user, sizeof(user)),
		a->nlink);
	fprintf(f, "size:      %" PRIu64 "  (%s)\n", a->size, mfs_str_put_size(size, sizeof(size), a->size));
	fprintf(f, "modified:  %s\n", mfs_str_put_time(time, sizeof(time), a->mtime));
	if (x->state) {
		fprintf(f, "state:     %s%s\n", x->state, x->dirty ? ", with data not written out yet" : "");
		fprintf(f, "key:       %s\n", n->ref.key ? n->ref.key : "(no object)");
		if (n->ref.key)
			fprintf(f, "version:   %s\n", n->ref.version);
		if (n->inline_data.data)
			fprintf(f, "object:    none yet, %zu bytes are in the index\n", n->inline_data.size);
		else if (a->obj_len != a->size)
			fprintf(f, "object:    %" PRIu64 " bytes, zeros behind them\n", a->obj_len);
		verb_layout(call, n);
		if (n->mime)
			fprintf(f, "mime:      %s\n", n->mime);
		if (n->hash[0])
			fprintf(f, "hash:      %s\n", n->hash);
	}
	if (n->symlink)
		fprintf(f, "target:    %s\n", n->symlink);
	fprintf(f, "counters:  ver %" PRIu64 ", data %" PRIu64 ", lay %" PRIu64 "\n", a->ver, a->data,
		a->lay);
	fprintf(f, "versions:  %zu\n", x->n_versions);
	fprintf(f, "xattrs:    %zu\n", n->n_xattrs);
}

/* Search permission is enough to see that it is there, as with stat(2); what comes from its bytes is for those who may read them. */
static void hide_content(const struct verb_call *call, struct node *n)
{
	if (verb_is_admin(call) || namespace_access(n, &call->cred, R_OK) == 0)
		return;
	free(n->mime);
	n->mime = NULL;
	n->hash[0] = n->etag[0] = '\0';
}

int verb_info(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX), shown = MFS_BUF_INIT(VERB_PATH_MAX);
	struct info x = { .shown = verb_shown(call, args->operand, &shown) };
	struct past_list past = { 0 };
	enum file_state state;
	struct entry e;
	int r = verb_path(call, args->operand, &path);

	if (r == 0)
		r = namespace_resolve_as(call->vol->ns, call->op, &call->cred, mfs_buf_str(&path), path.len,
					 0, &e);
	if (r < 0)
		return verb_fail(call, "%s: %s", x.shown, verb_strerror(r));
	x.n = &e.node;
	x.path = mfs_buf_str(&path);
	if (attr_is_reg(&e.node.attr)) {
		r = reconcile_state(call->vol, call->op, &e.node, &state);
		x.state = r < 0 ? "damaged" : state_name(state);
		x.dirty = is_dirty(call, e.node.attr.ino);
	}
	if (namespace_past(call->vol->ns, call->op, x.path, &past) == 0)
		x.n_versions = past.n;
	hide_content(call, &e.node);
	if (args->flags & FLAG_JSON)
		print_info_json(call, &x);
	else
		print_info(call, &x);
	past_list_release(&past);
	if (r < 0)
		verb_fail(call, "%s: its object: %s", x.shown, verb_strerror(r));
	entry_release(&e);
	return r < 0 ? VERB_FAILED : VERB_OK;
}

/* --- status --- */

struct status {
	uint64_t records, inline_bytes; /* for the reconciler */
	uint64_t files, bytes, jobs, memory_used, memory_max, n_open;
	uint64_t untagged; /* files without a tag that storage rules demand */
	struct object_statfs fs;
	bool has_statfs;
};

static void print_cache_json(FILE *f, bool *first, struct block_cache *c)
{
	struct block_cache_stats s;

	json_bool(f, first, "cache", c != NULL);
	if (!c)
		return;
	block_cache_stats(c, &s);
	json_number(f, first, "cache_limit", s.limit);
	json_number(f, first, "cache_bytes", s.bytes);
	json_number(f, first, "cache_blocks", s.blocks);
	json_number(f, first, "cache_hits", s.hits);
	json_number(f, first, "cache_misses", s.misses);
	json_number(f, first, "cache_prefetched", s.prefetched);
	json_number(f, first, "cache_evicted", s.evicted);
	json_number(f, first, "cache_bad", s.bad);
	json_number(f, first, "cache_folders", s.folders);
	json_number(f, first, "cache_folders_off", s.folders_off);
	json_bool(f, first, "cache_degraded", s.degraded);
}

static void print_cache(FILE *f, struct block_cache *c)
{
	struct block_cache_stats s;
	char a[24], b[24];

	if (!c)
		return;
	block_cache_stats(c, &s);
	fprintf(f, "cache:      %s of %s in %" PRIu64 " blocks; %" PRIu64 " hits, %" PRIu64 " misses, %" PRIu64 " read ahead, %" PRIu64
		" evicted", mfs_str_put_size(a, sizeof(a), s.bytes), mfs_str_put_size(b, sizeof(b), s.limit), s.blocks, s.hits, s.misses,
		s.prefetched, s.evicted);
	if (s.bad)
		fprintf(f, ", %" PRIu64 " DAMAGED", s.bad);
	if (s.folders_off)
		fprintf(f, "; %u of %u folders NOT USABLE", s.folders_off, s.folders);
	else if (s.degraded)
		fprintf(f, "; a folder is FULL");
	fputc('\n', f);
}

/* The nodes of an S3 store; other stores have none. */
static int count_node(void *arg, const struct s3_endpoint_state *n)
{
	uint64_t *count = arg;

	count[0]++;
	count[1] += !n->up;
	return 0;
}

static void print_nodes_json(FILE *f, bool *first, struct object_store *s)
{
	uint64_t count[2] = { 0 };

	if (s3_store_endpoints(s, count_node, count) < 0)
		return;
	json_number(f, first, "nodes", count[0]);
	json_number(f, first, "nodes_down", count[1]);
}

static int print_node(void *arg, const struct s3_endpoint_state *n)
{
	fprintf(arg, "node:       %s %s, %" PRIu64 " requests, %" PRIu64 " without an answer, %u under way", n->host,
		n->up ? "answers" : "DOES NOT ANSWER", n->requests, n->failures, n->under_way);
	if (n->latency_ns)
		fprintf(arg, ", %.1f ms", (double)n->latency_ns / 1e6);
	if (!n->up)
		fprintf(arg, " (%s)", n->why);
	fputc('\n', arg);
	return 0;
}

static void print_reconciler_json(struct verb_call *call, const struct status *s)
{
	struct reconcile_stats *stats = &call->vol->reconcile;
	char error[RECONCILE_ERROR_MAX];
	int64_t error_at = reconcile_stats_error(stats, error, sizeof(error));
	bool first = true;
	FILE *f = call->out;

	fputs(", \"reconciler\": {", f);
	json_number(f, &first, "jobs", s->jobs);
	json_number(f, &first, "records", s->records);
	json_number(f, &first, "inline_bytes", s->inline_bytes);
	json_number(f, &first, "settled", atomic_load(&stats->settled));
	json_number(f, &first, "put_inline_bytes", atomic_load(&stats->inline_bytes));
	json_number(f, &first, "copied_bytes", atomic_load(&stats->copied_bytes));
	json_number(f, &first, "imported", atomic_load(&stats->imported));
	json_number(f, &first, "bytes_per_second", reconcile_stats_rate(stats));
	json_number(f, &first, "bytes_per_second_limit", call->vol->cfg ? call->vol->cfg->settle_rate : 0);
	json_text(f, &first, "last_error", error_at ? error : NULL);
	if (error_at)
		json_time(f, &first, "last_error_time", error_at);
	fputc('}', f);
}

static void print_reconciler(struct verb_call *call, const struct status *s)
{
	struct reconcile_stats *stats = &call->vol->reconcile;
	char a[24], b[24], c[24], error[RECONCILE_ERROR_MAX], time[40];
	int64_t error_at = reconcile_stats_error(stats, error, sizeof(error));
	FILE *f = call->out;

	fprintf(f, "backlog:    %" PRIu64 " jobs for the reconciler, %" PRIu64 " files to be made objects (%s in the index)\n",
		s->jobs, s->records, mfs_str_put_size(a, sizeof(a), s->inline_bytes));
	if (call->fs)
		fprintf(f, "reconciler: %" PRIu64 " files settled, %s copied, %s put from the index, %s/s\n",
			atomic_load(&stats->settled),
			mfs_str_put_size(a, sizeof(a), atomic_load(&stats->copied_bytes)),
			mfs_str_put_size(b, sizeof(b), atomic_load(&stats->inline_bytes)),
			mfs_str_put_size(c, sizeof(c), reconcile_stats_rate(stats)));
	if (error_at)
		fprintf(f, "last error: %s, %s\n", mfs_str_put_time(time, sizeof(time), error_at), error);
}

static uint64_t seconds_since(int64_t wall)
{
	return (uint64_t)MFS_MAX((mfs_now_ns() - wall) / MFS_NSEC_PER_SEC, INT64_C(0));
}

static void print_index_log_json(FILE *f, struct index_log *l)
{
	struct index_log_status s;
	bool first = true;

	fputs(", \"index_log\": {", f);
	json_bool(f, &first, "on", l != NULL);
	if (l) {
		index_log_status(l, &s);
		json_bool(f, &first, "elsewhere", s.elsewhere);
		json_bool(f, &first, "snapshot", s.working);
		if (s.complete)
			json_time(f, &first, "complete", s.complete);
		else
			json_text(f, &first, "complete", NULL);
		json_number(f, &first, "behind", s.behind);
		json_number(f, &first, "behind_seconds", s.behind_since ? seconds_since(s.behind_since) : 0);
		json_number(f, &first, "epoch", s.epoch);
		json_number(f, &first, "number", s.number);
		json_number(f, &first, "snapshot_bytes", s.snapshot_bytes);
		json_number(f, &first, "changes_bytes", s.bytes);
		json_text(f, &first, "error", s.error ? verb_strerror(s.error) : NULL);
	}
	fputc('}', f);
}

static void print_index_log(FILE *f, struct index_log *l)
{
	struct index_log_status s;
	char a[24], b[24];

	if (!l) {
		fprintf(f, "index log:  off\n");
		return;
	}
	index_log_status(l, &s);
	if (s.elsewhere) {
		fprintf(f, "index log:  written by another mount; %" PRIu64 " changes behind at most, %" PRIu64 " s\n", s.behind,
			s.behind_since ? seconds_since(s.behind_since) : 0);
		return;
	}
	if (s.complete)
		fprintf(f, "index log:  written %" PRIu64 " s ago; ", seconds_since(s.complete));
	else
		fprintf(f, "index log:  not yet written by this mount; ");
	fprintf(f, "%" PRIu64 " changes behind, %" PRIu64 " s; snapshot %s, changes %s\n", s.behind,
		s.behind_since ? seconds_since(s.behind_since) : 0,
		s.working ? mfs_str_put_size(a, sizeof(a), s.snapshot_bytes) : "not complete yet",
		mfs_str_put_size(b, sizeof(b), s.bytes));
	if (s.error)
		fprintf(f, "            the last try failed: %s\n", verb_strerror(s.error));
}

/* What is among mounts: whose locks are here, and what this mount does for all. */
static void print_shared(FILE *f, const struct massfs *fs, struct volume *v)
{
	size_t owners, waiters;

	if (!v->sessions)
		return;
	if (fs && fs->locks) {
		file_locks_count(fs->locks, &owners, &waiters);
		fprintf(f, "locks:      %zu owners here, %zu wait\n", owners, waiters);
	}
	fprintf(f, "does:       %s\n",
		lease_hold(v, LEASE_RECONCILE) ? (lease_hold(v, LEASE_GC) ? "reconciler, gc" : "reconciler") :
		lease_hold(v, LEASE_GC)	       ? "gc" :
						 "neither reconciler nor gc: another mount");
}

static void print_shared_json(FILE *f, bool *first, const struct massfs *fs, struct volume *v)
{
	size_t owners, waiters;

	json_bool(f, first, "does_reconcile", lease_hold(v, LEASE_RECONCILE));
	json_bool(f, first, "does_gc", lease_hold(v, LEASE_GC));
	if (!fs || !fs->locks)
		return;
	file_locks_count(fs->locks, &owners, &waiters);
	json_number(f, first, "lock_owners", owners);
	json_number(f, first, "lock_waiters", waiters);
}

static void print_status_json(struct verb_call *call, const struct status *s)
{
	const struct massfs *fs = call->fs;
	const struct volume *v = call->vol;
	bool first = true;
	FILE *f = call->out;

	fputc('{', f);
	json_text(f, &first, "version", MASSFS_VERSION);
	json_text(f, &first, "volume", v->dir);
	json_text(f, &first, "uuid", v->record.uuid);
	json_text(f, &first, "source", v->cfg ? v->cfg->source : NULL);
	json_bool(f, &first, "mounted", fs != NULL);
	json_text(f, &first, "mountpoint", fs ? call->mountpoint : NULL);
	json_number(f, &first, "session", v->session);
	print_shared_json(f, &first, fs, call->vol);
	json_number(f, &first, "pid", fs ? (uint64_t)getpid() : 0);
	json_number(f, &first, "uptime_seconds",
		    call->started_ns ? (uint64_t)((mfs_mono_ns() - call->started_ns) / MFS_NSEC_PER_SEC) : 0);
	json_number(f, &first, "files", s->files);
	json_number(f, &first, "bytes", s->bytes);
	json_number(f, &first, "jobs", s->jobs);
	json_number(f, &first, "untagged", s->untagged);
	print_reconciler_json(call, s);
	if (fs)
		print_index_log_json(f, v->log);
	if (s->has_statfs) {
		json_number(f, &first, "disk_total", s->fs.total);
		json_number(f, &first, "disk_available", s->fs.avail);
	}
	if (fs) {
		json_number(f, &first, "memory_used", s->memory_used);
		json_number(f, &first, "memory_max", s->memory_max);
		json_number(f, &first, "inodes", s->n_open);
		json_number(f, &first, "operations", atomic_load(&fs->n_ops));
		json_number(f, &first, "errors", atomic_load(&fs->n_errors));
		json_number(f, &first, "bytes_read", atomic_load(&fs->bytes_read));
		json_number(f, &first, "bytes_written", atomic_load(&fs->bytes_written));
		print_cache_json(f, &first, v->cache);
		print_nodes_json(f, &first, v->store);
		json_number(f, &first, "bytes_stored", atomic_load(&v->store->bytes_put));
		json_number(f, &first, "bytes_copied", atomic_load(&v->store->bytes_copied));
	}
	fputs("}\n", f);
}

static void print_status(struct verb_call *call, const struct status *s)
{
	const struct massfs *fs = call->fs;
	const struct volume *v = call->vol;
	char a[24], b[24];
	FILE *f = call->out;

	fprintf(f, "volume:     %s\n", v->dir ? v->dir : "(none)");
	fprintf(f, "uuid:       %s\n", v->record.uuid);
	if (fs) {
		int64_t up = (mfs_mono_ns() - call->started_ns) / MFS_NSEC_PER_SEC;

		fprintf(f, "mounted:    on %s by process %ld, for %" PRId64 "d %02d:%02d:%02d\n",
			call->mountpoint, (long)getpid(), up / 86400, (int)(up / 3600 % 24),
			(int)(up / 60 % 60), (int)(up % 60));
	} else {
		fprintf(f, "mounted:    no\n");
	}
	fprintf(f, "session:    %" PRIu64 "\n", v->session);
	print_shared(f, call->fs, call->vol);
	fprintf(f, "files:      %" PRIu64 ", %s\n", s->files, mfs_str_put_size(a, sizeof(a), s->bytes));
	if (s->untagged)
		fprintf(f, "ALARM:      %" PRIu64 " files lack tags that storage rules demand; see massfs failures --kind=tags\n",
			s->untagged);
	print_reconciler(call, s);
	if (s->has_statfs)
		fprintf(f, "disk:       %s of %s available\n", mfs_str_put_size(a, sizeof(a), s->fs.avail),
			mfs_str_put_size(b, sizeof(b), s->fs.total));
	if (!fs)
		return;
	fprintf(f, "memory:     %s of %s for file data, %" PRIu64 " inodes known\n",
		mfs_str_put_size(a, sizeof(a), s->memory_used), mfs_str_put_size(b, sizeof(b), s->memory_max),
		s->n_open);
	print_index_log(f, v->log);
	print_cache(f, v->cache);
	(void)s3_store_endpoints(v->store, print_node, f);
	fprintf(f, "operations: %" PRIu64 ", %" PRIu64 " errors; read %s, ", atomic_load(&fs->n_ops),
		atomic_load(&fs->n_errors), mfs_str_put_size(a, sizeof(a), atomic_load(&fs->bytes_read)));
	fprintf(f, "written %s\n", mfs_str_put_size(b, sizeof(b), atomic_load(&fs->bytes_written)));
}

int verb_status(struct verb_call *call, const struct verb_args *args)
{
	struct status s = { 0 };
	int r = engine_count(call->vol->engine, call->op, &s.files, &s.bytes);

	if (r == 0)
		r = engine_jobs_count(call->vol->engine, call->op, &s.jobs);
	if (r == 0)
		r = engine_todo_count(call->vol->engine, call->op, &s.records, &s.inline_bytes);
	if (r == 0)
		r = namespace_demands_count(call->vol->ns, call->op, &s.untagged);
	if (r < 0)
		return verb_fail(call, "the index does not answer: %s", verb_strerror(r));
	s.has_statfs = object_statfs(call->vol->store, call->op, &s.fs) == 0;
	if (call->fs) {
		s.memory_used = budget_used(call->fs->budget);
		s.memory_max = budget_max(call->fs->budget);
		s.n_open = inode_table_count(call->fs->inodes);
	}
	if (args->flags & FLAG_JSON)
		print_status_json(call, &s);
	else
		print_status(call, &s);
	return VERB_OK;
}
