/*
 * The namespace's core: making one, inode numbers, names of users, reading, and the loop that tries a lost race again.
 */
#include "meta/namespace.h"

#include <inttypes.h>
#include <pwd.h>
#include <sched.h>
#include <unistd.h>

#include "common/hash.h"
#include "meta/namespace_dirs.h"
#include "meta/namespace_internal.h"

#define INO_BATCH  1000u
#define USER_SLOTS 256u
#define TRIES_MAX  400u
#define TRIES_SPIN 8u
#define PAUSE_MAX  10000u /* microseconds */

int namespace_new(struct engine *e, const struct namespace_options *opt, struct namespace **ret)
{
	struct namespace *ns = calloc(1, sizeof(*ns));
	int r;

	if (!ns)
		return -ENOMEM;
	ns->e = e;
	ns->opt = *opt;
	ns->users = calloc(USER_SLOTS, sizeof(*ns->users));
	r = ns->users ? 0 : -ENOMEM;
	if (r == 0)
		r = ns_dirs_new(ns);
	if (r < 0) {
		free(ns->users);
		free(ns);
		return r;
	}
	pthread_mutex_init(&ns->lock.m, NULL);
	*ret = ns;
	return 0;
}

void namespace_free(struct namespace *ns)
{
	if (!ns)
		return;
	ns_dirs_free(ns);
	ns_rules_put(ns->rules);
	free(ns->told_after);
	for (unsigned int i = 0; i < USER_SLOTS; i++)
		free(ns->users[i].name);
	free(ns->users);
	pthread_mutex_destroy(&ns->lock.m);
	free(ns);
}

struct engine *namespace_engine(struct namespace *ns)
{
	return ns->e;
}

/* Names. */

static bool is_reserved(mfs_ino_t parent, const struct mfs_name *n)
{
	return parent == MFS_ROOT_INO && strcmp(n->bytes, NS_RESERVED_NAME) == 0;
}

int ns_new_name(mfs_ino_t parent, const char *name, size_t len, struct mfs_name *ret)
{
	int r = mfs_name_set(ret, name, len);

	if (r < 0)
		return r;
	return is_reserved(parent, ret) ? -EPERM : 0;
}

int ns_old_name(mfs_ino_t parent, const char *name, size_t len, struct mfs_name *ret)
{
	int r = mfs_name_set(ret, name, len);

	if (r < 0)
		return r;
	return is_reserved(parent, ret) ? -ENOENT : 0;
}

/* Inode numbers. */

/* `count` of the numbers in stock, in a row. */
static bool take_numbers(struct namespace *ns, unsigned int count, uint64_t *ret_first)
{
	MFS_GUARD(&ns->lock);

	if (ns->ino_left < count)
		return false;
	*ret_first = ns->ino_next;
	ns->ino_next += count;
	ns->ino_left -= count;
	return true;
}

/*
 * The stock is filled up with what is over of the reservation. Two threads that find too few both reserve; what is left
 * of the smaller stock is lost, which costs nothing.
 */
int namespace_reserve(struct namespace *ns, struct op_ctx *op, unsigned int count, uint64_t *ret_first)
{
	unsigned int batch = MFS_MAX(count, INO_BATCH);
	uint64_t first;
	int r;

	if (count == 0)
		return -EINVAL;
	if (take_numbers(ns, count, ret_first))
		return 0;
	r = engine_reserve(ns->e, op, batch, &first);
	if (r < 0)
		return r;
	*ret_first = first;
	{
		MFS_GUARD(&ns->lock);
		if (ns->ino_left < batch - count) {
			ns->ino_next = first + count;
			ns->ino_left = batch - count;
		}
	}
	return 0;
}

int ns_new_ino(struct namespace *ns, struct op_ctx *op, mfs_ino_t *ret)
{
	return namespace_reserve(ns, op, 1, ret);
}

/* Users. */

/* 1: remembered, 0: not, -ENOMEM. */
static int user_remembered(struct namespace *ns, uid_t uid, char **ret)
{
	const struct ns_user_slot *s = &ns->users[mfs_hash_u64(uid) % USER_SLOTS];
	MFS_GUARD(&ns->lock);

	if (!s->used || s->uid != uid)
		return 0;
	*ret = s->name ? strdup(s->name) : NULL;
	return s->name && !*ret ? -ENOMEM : 1;
}

static int user_remember(struct namespace *ns, uid_t uid, const char *name)
{
	struct ns_user_slot *s = &ns->users[mfs_hash_u64(uid) % USER_SLOTS];
	char *copy = name ? strdup(name) : NULL;

	if (name && !copy)
		return -ENOMEM;
	{
		MFS_GUARD(&ns->lock);
		free(s->name);
		*s = (struct ns_user_slot){ .used = true, .uid = uid, .name = copy };
	}
	return 0;
}

/* A lookup that fails (a directory server is away) is no reason to refuse a create: the uid is recorded anyway. */
int ns_user_name(struct namespace *ns, uid_t uid, char **ret)
{
	struct passwd pw, *found = NULL;
	char buf[4096];
	int r;

	r = user_remembered(ns, uid, ret);
	if (r != 0)
		return r < 0 ? r : 0;
	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) != 0)
		found = NULL;
	r = user_remember(ns, uid, found ? pw.pw_name : NULL);
	if (r < 0)
		return r;
	*ret = found ? strdup(pw.pw_name) : NULL;
	return found && !*ret ? -ENOMEM : 0;
}

/* Reading. */

int namespace_get(struct namespace *ns, struct op_ctx *op, mfs_ino_t ino, struct node *ret)
{
	return engine_get(ns->e, op, ino, ret);
}

int namespace_lookup(struct namespace *ns, struct op_ctx *op, mfs_ino_t parent, const char *name, size_t len,
		     struct entry *ret)
{
	struct mfs_name n;
	int r = ns_old_name(parent, name, len, &n);

	return r < 0 ? r : engine_lookup(ns->e, op, parent, &n, ret);
}

int namespace_list(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, uint64_t after, size_t limit,
		   struct node_list *ret)
{
	return engine_list(ns->e, op, dir, after, limit, ret);
}

int ns_get_dir(struct namespace *ns, struct op_ctx *op, mfs_ino_t dir, struct node *ret)
{
	int r = engine_get(ns->e, op, dir, ret);

	if (r == -ESTALE)
		return -ENOENT;
	if (r < 0)
		return r;
	if (!attr_is_dir(&ret->attr)) {
		node_release(ret);
		return -ENOTDIR;
	}
	return 0;
}

/* Retrying. */

bool ns_again(struct op_ctx *op, const char *what, mfs_ino_t ino, unsigned int attempt, int *r)
{
	unsigned int pause = (attempt - TRIES_SPIN) * 50;

	if (*r != -EAGAIN && *r != -ESTALE)
		return false;
	if (attempt >= TRIES_MAX) {
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, op,
			"what=%s ino=%" PRIu64 " lost %u races for the same records; the answer is EIO", what,
			ino, attempt);
		*r = -EIO;
		return false;
	}
	if (attempt < TRIES_SPIN)
		sched_yield();
	else
		usleep(MFS_MIN(pause, PAUSE_MAX) + (unsigned int)(mfs_mono_ns() & 63));
	return true;
}
