/*
 * How much content waits in the index to become objects: beyond a bound small files are put directly, so that the index
 * stays small and a crash of the reconciler's host leaves little to do. From half of it on the reconciler does not wait.
 */
#include "common/clock.h"
#include "fs/content_internal.h"

#define BYTES_MAX  (UINT64_C(64) << 20)
#define FILES_MAX  20000
#define TODO_NS	   (3 * MFS_NSEC_PER_SEC)
#define RECOUNT_NS MFS_NSEC_PER_SEC
#define DISK_MIN   (UINT64_C(16) << 20) /* left for the index itself: a volume that content has filled must open */

static uint64_t share(const struct content_env *env, unsigned int parts)
{
	uint64_t files = atomic_load(&env->inline_files) * parts / FILES_MAX;

	return MFS_MAX(files, atomic_load(&env->inline_bytes) * parts / BYTES_MAX);
}

/* From the index: settles and unlinks lower it unseen. */
static void count(struct content_env *env, struct op_ctx *op)
{
	int64_t now = mfs_mono_ns(), last = atomic_load(&env->inline_counted);
	uint64_t files, bytes;

	if ((last && now - last < RECOUNT_NS) || !atomic_compare_exchange_strong(&env->inline_counted, &last, now))
		return;
	if (engine_todo_count(env->vol->engine, op, &files, &bytes) < 0)
		return;
	atomic_store(&env->inline_files, files);
	atomic_store(&env->inline_bytes, bytes);
}

/* Content in the index takes the disk of the index, and no put is refused in its place: not the last of it. */
static bool disk_has_room(struct content_env *env, struct op_ctx *op)
{
	struct object_statfs s;

	return object_statfs(env->vol->store, op, &s) < 0 || s.avail >= DISK_MIN;
}

bool inline_has_room(struct content_env *env, struct op_ctx *op, uint64_t size)
{
	uint64_t max = env->vol->cfg->inline_size;

	if (!max || size > MFS_MIN(max, (uint64_t)MFS_INLINE_MAX))
		return false;
	/* From half of the bound on, or what was settled since would never be seen, and each file hurried. */
	if (!atomic_load(&env->inline_counted) || share(env, 2) >= 1)
		count(env, op);
	return share(env, 1) < 1 && disk_has_room(env, op);
}

void inline_moved(struct content_env *env, const struct state *before, const struct state *after)
{
	if (before->is_inline && before->todo) {
		/* A count may have come between: never below zero. */
		uint64_t files = atomic_load(&env->inline_files), bytes = atomic_load(&env->inline_bytes);

		if (files)
			atomic_compare_exchange_strong(&env->inline_files, &files, files - 1);
		if (bytes >= before->inline_data.size)
			atomic_compare_exchange_strong(&env->inline_bytes, &bytes, bytes - before->inline_data.size);
	}
	if (!after->is_inline)
		return;
	atomic_fetch_add(&env->inline_files, 1);
	atomic_fetch_add(&env->inline_bytes, after->inline_data.size);
	if (share(env, 2) >= 1 && env->vol->hooks.jobs_queued)
		env->vol->hooks.jobs_queued(env->vol->hooks.arg);
}

int64_t inline_todo(struct content_env *env, int64_t now)
{
	return share(env, 2) >= 1 ? now : now + TODO_NS;
}
