/*
 * The table of directories, and who was placed by it lately (namespace_dirs.h).
 */
#include "meta/namespace_dirs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/hash.h"

#define SLOTS	  65536u
#define PLACED	  4096u
#define DEPTH_MAX 65536u
#define FRESH_NS  (500 * INT64_C(1000000)) /* older news: what is remembered is not believed */
#define USED_NS	  (10 * MFS_NSEC_PER_SEC)  /* a slot that was used within stays: who was placed by it may yet be looked for */

struct slot {
	mfs_ino_t ino, parent;
	char *name; /* owned; NULL: empty */
	uint16_t len;
	uint32_t heard; /* counts news of whatever has its place here */
	uint32_t reading; /* how many read the index for what would have its place here */
	int64_t used;	/* monotonic; only where other mounts are */
};

struct placed {
	mfs_ino_t ino, dir; /* ino 0: nobody */
};

struct ns_dirs {
	struct slot slots[SLOTS];
	struct placed placed[PLACED]; /* a ring */
	unsigned int next;
	mfs_ino_t again[PLACED]; /* to be looked at again */
	unsigned int n_again;
	bool hears; /* namespace_hears() */
};

int ns_dirs_new(struct namespace *ns)
{
	ns->dirs = calloc(1, sizeof(*ns->dirs));
	return ns->dirs ? 0 : -ENOMEM;
}

void ns_dirs_free(struct namespace *ns)
{
	if (!ns->dirs)
		return;
	for (unsigned int i = 0; i < SLOTS; i++)
		free(ns->dirs->slots[i].name);
	free(ns->dirs);
	ns->dirs = NULL;
}

static bool is_alone(const struct namespace *ns)
{
	return ns->e->ops->caps & ENGINE_SINGLE_MOUNT;
}

static struct slot *slot_of(struct namespace *ns, mfs_ino_t ino)
{
	return &ns->dirs->slots[mfs_hash_u64(ino) % SLOTS];
}

static struct slot *find_locked(struct namespace *ns, mfs_ino_t ino) MFS_REQUIRES(ns->lock)
{
	struct slot *s = slot_of(ns, ino);

	return s->name && s->ino == ino ? s : NULL;
}

static struct ns_stamp stamp_locked(const struct namespace *ns) MFS_REQUIRES(ns->lock)
{
	return (struct ns_stamp){ .gen = ns->dir_gen, .moving = ns->dir_moves > 0 };
}

static bool moved_since_locked(const struct namespace *ns, struct ns_stamp since) MFS_REQUIRES(ns->lock)
{
	return since.moving || ns->dir_moves > 0 || ns->dir_gen != since.gen;
}

bool ns_dirs_find(struct namespace *ns, const struct op_ctx *op, mfs_ino_t ino, mfs_ino_t *parent, struct mfs_name *name,
		  struct ns_reading *ret_reading)
{
	bool alone = is_alone(ns);
	int64_t now = alone ? 0 : mfs_mono_ns();
	bool believed = alone || (!(op && op->fresh) && engine_last_beat(ns->e) > now - FRESH_NS);
	MFS_GUARD(&ns->lock);
	struct slot *s = find_locked(ns, ino);

	if (s)
		s->used = now;
	if (!s || !believed || (!alone && !ns->dirs->hears)) {
		s = slot_of(ns, ino);
		s->reading++;
		*ret_reading = (struct ns_reading){ .stamp = stamp_locked(ns), .heard = s->heard, .ino = ino };
		return false;
	}
	*parent = s->parent;
	name->len = s->len;
	memcpy(name->bytes, s->name, (size_t)s->len + 1);
	return true;
}

/* ---- moves of others ---- */

/* Of a directory on the way that is not known here anything may be true. */
static bool is_below_locked(struct namespace *ns, mfs_ino_t dir, mfs_ino_t moved) MFS_REQUIRES(ns->lock)
{
	for (unsigned int i = 0; dir != moved && i < DEPTH_MAX; i++) {
		const struct slot *s = dir == MFS_ROOT_INO ? NULL : find_locked(ns, dir);

		if (!s)
			return dir != MFS_ROOT_INO;
		dir = s->parent;
	}
	return true;
}

/* `moved` 0: whatever. Where it is remembered it still says the old place. */
static void moved_locked(struct namespace *ns, mfs_ino_t moved) MFS_REQUIRES(ns->lock)
{
	struct ns_dirs *d = ns->dirs;

	ns->dir_gen++;
	for (unsigned int i = 0; i < PLACED; i++) {
		struct placed *p = &d->placed[i];

		/* Without room it stays in the ring, for the next move. */
		if (!p->ino || d->n_again == PLACED || (moved && !is_below_locked(ns, p->dir, moved)))
			continue;
		d->again[d->n_again++] = p->ino;
		p->ino = 0;
	}
}

static void empty(struct slot *s)
{
	free(s->name);
	*s = (struct slot){ .heard = s->heard, .reading = s->reading };
}

static bool is_at(const struct slot *s, mfs_ino_t parent, const struct mfs_name *name)
{
	return name && s->parent == parent && s->len == name->len && memcmp(s->name, name->bytes, s->len) == 0;
}

static void record_news_locked(struct namespace *ns, const struct news *w) MFS_REQUIRES(ns->lock)
{
	struct slot *s = slot_of(ns, w->ino);
	bool kept = w->kind == NEWS_RECORD && w->hint && !w->parent; /* a hint of a record that kept its name */

	s->heard++;
	if (kept)
		return;
	if (s->reading) /* whoever has read the old place finds that something moved */
		ns->dir_gen++;
	s = find_locked(ns, w->ino);
	if (!s || (w->kind == NEWS_RECORD && is_at(s, w->parent, w->name)))
		return;
	moved_locked(ns, w->ino);
	empty(s);
}

bool ns_dirs_news(struct namespace *ns, const struct news *w)
{
	MFS_GUARD(&ns->lock);

	if (w->kind == NEWS_RECORD || w->kind == NEWS_GONE) {
		record_news_locked(ns, w);
	} else if (w->kind == NEWS_LOST) {
		moved_locked(ns, 0);
		for (unsigned int i = 0; i < SLOTS; i++) {
			ns->dirs->slots[i].heard++;
			empty(&ns->dirs->slots[i]);
		}
	}
	return ns->dirs->n_again > 0;
}

void namespace_hears(struct namespace *ns)
{
	MFS_GUARD(&ns->lock);

	ns->dirs->hears = true;
}

bool ns_placed(struct namespace *ns, struct ns_stamp since, mfs_ino_t ino, mfs_ino_t dir)
{
	struct ns_dirs *d = ns->dirs;
	MFS_GUARD(&ns->lock);

	if (moved_since_locked(ns, since))
		return false;
	if (d->hears && dir)
		d->placed[d->next++ % PLACED] = (struct placed){ ino, dir };
	return true;
}

static mfs_ino_t next_again(struct namespace *ns)
{
	MFS_GUARD(&ns->lock);

	return ns->dirs->n_again ? ns->dirs->again[--ns->dirs->n_again] : 0;
}

/* False: there is no room. */
static bool keep_again(struct namespace *ns, mfs_ino_t ino)
{
	MFS_GUARD(&ns->lock);

	if (ns->dirs->n_again == PLACED)
		return false;
	ns->dirs->again[ns->dirs->n_again++] = ino;
	return true;
}

/* What cannot be queued now, as the index does not answer, is queued when news come again. */
void namespace_recheck(struct namespace *ns, struct op_ctx *op)
{
	mfs_ino_t ino;
	int r = 0;

	while (r == 0 && (ino = next_again(ns)) != 0) {
		r = ns_recheck_later(ns, op, ino);
		if (r < 0 && !keep_again(ns, ino))
			mfs_log(MFS_LOG_META, MFS_LOG_WARN, op,
				"ino=%" PRIu64 " was stored while another mount moved a directory above it, and queueing it failed (%s): its "
				"object may be at an old key until `massfs settle` is run on it",
				ino, strerror(-r));
	}
}

/* ---- remembering ---- */

static bool has_room(const struct slot *s, mfs_ino_t ino, int64_t now)
{
	return !s->name || s->ino == ino || now - s->used >= USED_NS;
}

static void remember_locked(struct namespace *ns, struct slot *s, const struct node *n, char **name) MFS_REQUIRES(ns->lock)
{
	bool alone = is_alone(ns);
	int64_t now = alone ? INT64_MAX : mfs_mono_ns();

	if (!has_room(s, n->attr.ino, now)) {
		ns->dir_gen++; /* its moves will not be noticed: who was placed by this answer looks again */
		return;
	}
	if (!alone && s->name && s->ino == n->attr.ino && !is_at(s, n->parent, &n->name))
		moved_locked(ns, n->attr.ino); /* the index says what the news did not yet */
	empty(s);
	s->ino = n->attr.ino;
	s->parent = n->parent;
	s->name = MFS_TAKE(*name);
	s->len = n->name.len;
	s->used = now;
}

/* Only what was read with no directory moving and nothing heard meanwhile. */
void ns_dirs_read(struct namespace *ns, const struct ns_reading *reading, const struct node *n)
{
	MFS_AUTOFREE char *name = n ? strdup(n->name.bytes) : NULL;
	MFS_GUARD(&ns->lock);
	struct slot *s = slot_of(ns, reading->ino);

	s->reading--;
	if (!n || moved_since_locked(ns, reading->stamp) || s->heard != reading->heard)
		return;
	if (name)
		remember_locked(ns, s, n, &name);
	else
		ns->dir_gen++;
}

static void forget_locked(struct namespace *ns, mfs_ino_t ino) MFS_REQUIRES(ns->lock)
{
	struct slot *s = ino ? find_locked(ns, ino) : NULL;

	if (s)
		empty(s);
}

/* ---- own moves ---- */

void ns_dir_move_begin(struct namespace *ns, mfs_ino_t a, mfs_ino_t b)
{
	MFS_GUARD(&ns->lock);

	ns->dir_moves++;
	ns->dir_gen++;
	forget_locked(ns, a);
	forget_locked(ns, b);
}

void ns_dir_move_end(struct namespace *ns, mfs_ino_t a, mfs_ino_t b)
{
	MFS_GUARD(&ns->lock);

	ns->dir_moves--;
	ns->dir_gen++;
	forget_locked(ns, a);
	forget_locked(ns, b);
}

void namespace_forget_dir(struct namespace *ns, mfs_ino_t ino)
{
	ns_dir_move_begin(ns, ino, 0);
	ns_dir_move_end(ns, ino, 0);
}

struct ns_stamp ns_stamp_now(struct namespace *ns)
{
	MFS_GUARD(&ns->lock);

	return stamp_locked(ns);
}

bool ns_paths_moved(struct namespace *ns, struct ns_stamp since)
{
	MFS_GUARD(&ns->lock);

	return moved_since_locked(ns, since);
}
