/*
 * A file with its versions: each object is read once, however many states name it; then what each state has lost is told,
 * together with the states that are whole.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/op_ctx.h"
#include "common/str.h"
#include "fs/gc_internal.h"
#include "fs/pieces.h"
#include "fs/scrub_internal.h"

#define STATE_NAME 64

/* One object of the file. */
struct checked {
	uint64_t hash; /* of its version */
	uint64_t len;
	struct object_ref ref; /* owned; only of a damaged one */
	struct scrub_finding finding;
	bool quarantined;
};

struct state {
	struct file_content c;
	const char *path; /* borrowed */
	char name[STATE_NAME];
	bool is_damaged;
	char why[FILE_CONTENT_WHY]; /* the record is damaged; "": it is not */
};

struct file {
	struct scrub *s;
	mfs_ino_t ino;
	struct version_list versions;
	struct state *states; /* the record's first, then the newest version */
	size_t n_states;
	struct checked *objects;
	size_t n_objects, cap_objects;
	struct state *state; /* whose pieces are looked at */
	struct mfs_buf path, intact;
};

static struct checked *find_checked(struct file *f, const char *version)
{
	uint64_t hash = gc_version_hash(version);

	for (size_t i = 0; i < f->n_objects; i++)
		if (f->objects[i].hash == hash)
			return &f->objects[i];
	return NULL;
}

static struct checked *add_checked(struct file *f, const struct piece *p)
{
	if (f->n_objects == f->cap_objects) {
		size_t cap = f->cap_objects ? 2 * f->cap_objects : 16;
		struct checked *v = reallocarray(f->objects, cap, sizeof(*v));

		if (!v)
			return NULL;
		f->objects = v;
		f->cap_objects = cap;
	}
	f->objects[f->n_objects] = (struct checked){ .hash = gc_version_hash(p->ref->version), .len = p->len };
	return &f->objects[f->n_objects++];
}

/* Only what the records still name is missing: 1, else 0 (replaced and collected while we read), or -errno. */
static int still_named(struct file *f, const char *version)
{
	struct gc_names names = { 0 };
	int r = gc_names_read(f->s->v, f->s->op, f->ino, &names);

	if (r == 0)
		r = gc_names_version(&names, version);
	gc_names_release(&names);
	return r;
}

/* A piece_fn. */
static int look_at(void *arg, const struct piece *p)
{
	struct file *f = arg;
	struct checked *c = find_checked(f, p->ref->version);
	int r;

	if (!c) {
		c = add_checked(f, p);
		if (!c)
			return -ENOMEM;
		r = scrub_object(f->s, p, &c->finding);
		if (r > 0)
			r = still_named(f, p->ref->version);
		if (r < 0)
			return r;
		if (r == 0)
			c->finding.what = NULL;
		else if (object_ref_copy(p->ref, &c->ref) < 0)
			return -ENOMEM;
	} else if (!c->finding.what && p->len > c->len) {
		struct scrub_finding again;

		/* Another state needs more of it. */
		c->len = p->len;
		r = scrub_object(f->s, p, &again);
		if (r < 0)
			return r;
		c->finding = again;
		if (r > 0 && object_ref_copy(p->ref, &c->ref) < 0)
			return -ENOMEM;
	}
	f->state->is_damaged |= c->finding.what != NULL;
	return atomic_load(&f->s->op->cancelled) ? -ECANCELED : 0;
}

static int look_at_state(struct file *f, struct state *st)
{
	int r = file_content_check(f->s->v, f->s->op, &st->c, st->why);

	f->state = st;
	if (r == -EUCLEAN) {
		st->is_damaged = true;
		r = 0;
	} else {
		st->why[0] = '\0';
	}
	if (r == 0)
		r = file_content_pieces(&st->c, look_at, f);
	return r == -EUCLEAN ? 0 : r;
}

/* --- telling --- */

static int list_intact(struct file *f)
{
	int r = 0;

	mfs_buf_clear(&f->intact);
	for (size_t i = 0; i < f->n_states && r == 0; i++)
		if (!f->states[i].is_damaged)
			r = mfs_buf_printf(&f->intact, "%s%s", f->intact.len ? ", " : "", f->states[i].name);
	return r;
}

static void quarantine(struct file *f, struct checked *c)
{
	int r;

	if (!f->s->opt->quarantine || c->quarantined || strcmp(c->finding.what, "missing") == 0)
		return;
	r = object_set_aside(f->s->v->store, f->s->op, &c->ref);
	c->quarantined = r == 0;
	f->s->res->quarantined += r == 0;
	if (r == 0 && f->s->opt->set_aside)
		f->s->opt->set_aside(f->s->opt->arg, f->ino);
	if (r < 0 && r != -ENOENT) {
		f->s->res->failed++;
		mfs_log(MFS_LOG_FS, MFS_LOG_ERR, f->s->op, "scrub key=%s version=%s not set aside: %s", c->ref.key,
			c->ref.version, strerror(-r));
	}
}

static void tell(struct file *f, const struct state *st, const struct scrub_damage *d)
{
	struct scrub_damage all = *d;

	all.ino = f->ino;
	all.path = st->path;
	all.state = st->name;
	all.intact = mfs_buf_str(&f->intact);
	f->s->res->damaged++;
	mfs_log(MFS_LOG_FS, MFS_LOG_ERR, f->s->op, "scrub path=%s state=%s key=%s version=%s: %s: %s", all.path, all.state,
		all.key, all.version, all.what, all.detail);
	if (f->s->opt->damage)
		f->s->opt->damage(f->s->opt->arg, &all);
}

struct naming {
	const struct checked *c;
	bool found;
};

/* A piece_fn. */
static int is_this_one(void *arg, const struct piece *p)
{
	struct naming *n = arg;

	n->found |= strcmp(p->ref->version, n->c->ref.version) == 0;
	return 0;
}

static int tell_object(struct file *f, const struct state *st, struct checked *c)
{
	struct naming n = { .c = c };
	struct scrub_damage d = { .what = c->finding.what, .detail = c->finding.detail, .size = c->len };
	uint64_t off, len;
	struct layout l;
	int r = file_content_pieces(&st->c, is_this_one, &n);

	if (r < 0 || !n.found)
		return r == -EUCLEAN ? 0 : r;
	quarantine(f, c);
	d.key = c->ref.key;
	d.version = c->ref.version;
	d.quarantined = c->quarantined;
	if (file_content_layout(f->s->v, f->s->op, &st->c, &l) == 0) {
		d.lost = file_content_of_object(&st->c, &l, c->ref.version, &off, &len);
		layout_release(&l);
	}
	tell(f, st, &d);
	return 0;
}

static int tell_state(struct file *f, const struct state *st)
{
	int r = 0;

	if (st->why[0])
		tell(f, st, &(struct scrub_damage){
				    .what = "damaged record", .detail = st->why, .key = "", .version = "", .lost = st->c.size });
	for (size_t i = 0; i < f->n_objects && r == 0; i++)
		if (f->objects[i].finding.what)
			r = tell_object(f, st, &f->objects[i]);
	return r;
}

/* --- the file --- */

static int name_states(struct file *f, const struct node *n)
{
	bool removed = n && (n->attr.flags & ATTR_IN_TRASH);
	int r = 0;

	f->states = calloc(f->versions.n + 1, sizeof(*f->states));
	if (!f->states)
		return -ENOMEM;
	if (n && !removed)
		r = namespace_path(f->s->v->ns, f->s->op, n->attr.ino, &f->path);
	if (r == -EFBIG || r == -ESTALE || r == -ENOENT) {
		mfs_buf_clear(&f->path);
		r = mfs_buf_printf(&f->path, "inode %" PRIu64, f->ino);
	}
	if (r < 0)
		return r;
	if (n) {
		struct state *st = &f->states[f->n_states++];

		*st = (struct state){ .c = file_content_of_node(n) };
		st->path = removed ? (n->trash_path ? n->trash_path : "") : mfs_buf_str(&f->path);
		snprintf(st->name, sizeof(st->name), "%s", removed ? "removed" : "current");
	}
	for (size_t i = 0; i < f->versions.n; i++) {
		struct state *st = &f->states[f->n_states++];

		*st = (struct state){ .c = file_content_of_version(&f->versions.v[i]) };
		st->path = f->versions.v[i].path ? f->versions.v[i].path : "";
		file_version_name(&f->versions.v[i], st->name, sizeof(st->name));
	}
	return 0;
}

static void file_release(struct file *f)
{
	for (size_t i = 0; i < f->n_objects; i++)
		object_ref_release(&f->objects[i].ref);
	free(f->objects);
	free(f->states);
	version_list_release(&f->versions);
	mfs_buf_release(&f->path);
	mfs_buf_release(&f->intact);
}

int scrub_file(struct scrub *s, mfs_ino_t ino, const struct node *n)
{
	struct file f = { .s = s, .ino = ino, .path = MFS_BUF_INIT(1 << 20), .intact = MFS_BUF_INIT(64 << 10) };
	bool any = false;
	int r = engine_versions_by_ino(s->v->engine, s->op, ino, &f.versions);

	s->res->files += n != NULL;
	if (r == 0)
		r = name_states(&f, n);
	s->res->versions += r == 0 ? f.versions.n : 0;
	for (size_t i = 0; r == 0 && i < f.n_states; i++) {
		r = look_at_state(&f, &f.states[i]);
		any |= f.states[i].is_damaged;
	}
	if (r == 0 && any) {
		(void)!list_intact(&f); /* too many: as many as there is room for */
		for (size_t i = 0; r == 0 && i < f.n_states; i++)
			if (f.states[i].is_damaged)
				r = tell_state(&f, &f.states[i]);
	}
	file_release(&f);
	return r;
}
