/*
 * Records as lines of JSON. Fields stand in a fixed order and those that are 0 or empty are left out, so the same record
 * is always the same bytes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base64.h"
#include "common/str.h"
#include "meta/record_internal.h"
#include "meta/record_stream.h"

const char *const record_names[RECORD_N_KINDS] = {
	[RECORD_HEADER] = "massfs",   [RECORD_VOLUME] = "volume",   [RECORD_NODE] = "file",
	[RECORD_ALIAS] = "alias",     [RECORD_VERSION] = "version", [RECORD_SLICES] = "slices",
	[RECORD_DROPPED] = "dropped", [RECORD_JOB] = "job",	    [RECORD_SESSION] = "session",
	[RECORD_CELL] = "cell",
	[RECORD_GONE] = "gone",	      [RECORD_STATE] = "state",	    [RECORD_END] = "end",
};
const char *const record_stream_names[3] = { "dump", "index-snapshot", "index-changes" };
const char *const record_job_names[5] = { NULL, "key", "dir", "file", "view" };

/* mfs_buf keeps the first failure, so only the end of a line is checked. */
static void begin(struct mfs_buf *b, const char *kind)
{
	mfs_buf_printf(b, "{\"r\":\"%s\"", kind);
}

static int end(struct mfs_buf *b)
{
	mfs_buf_puts(b, "}\n");
	return b->err;
}

/* By hand: a record has some twenty numbers, and printf takes longer than all the rest. */
static void put_digits(struct mfs_buf *b, uint64_t v)
{
	char digits[24], *p = digits + sizeof(digits);

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	mfs_buf_append(b, p, (size_t)(digits + sizeof(digits) - p));
}

static void put_key(struct mfs_buf *b, const char *name)
{
	mfs_buf_puts(b, ",\"");
	mfs_buf_puts(b, name);
	mfs_buf_puts(b, "\":");
}

static void put_number(struct mfs_buf *b, uint64_t v)
{
	if (v > INT64_MAX)
		mfs_buf_putc(b, '"');
	put_digits(b, v);
	if (v > INT64_MAX)
		mfs_buf_putc(b, '"');
}

static void put_u64(struct mfs_buf *b, const char *name, uint64_t v)
{
	if (v == 0)
		return;
	put_key(b, name);
	put_number(b, v);
}

static void put_signed(struct mfs_buf *b, int64_t v)
{
	if (v < 0)
		mfs_buf_putc(b, '-');
	put_digits(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void put_i64(struct mfs_buf *b, const char *name, int64_t v)
{
	if (v == 0)
		return;
	put_key(b, name);
	put_signed(b, v);
}

static void put_true(struct mfs_buf *b, const char *name, bool v)
{
	if (!v)
		return;
	put_key(b, name);
	mfs_buf_puts(b, "true");
}

static void put_sum(struct mfs_buf *b, const char *name, uint64_t v)
{
	put_key(b, name);
	mfs_buf_printf(b, "\"xxh3:%016" PRIx64 "\"", v);
}

/* Readable: UTF-8 without control characters. */
static bool is_plain(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			return false;
	return mfs_utf8_valid(p, len);
}

static void put_plain(struct mfs_buf *b, const char *p, size_t len)
{
	size_t from = 0;

	mfs_buf_putc(b, '"');
	for (size_t i = 0; i < len; i++) {
		if (p[i] != '"' && p[i] != '\\')
			continue;
		mfs_buf_append(b, p + from, i - from);
		mfs_buf_putc(b, '\\');
		from = i;
	}
	mfs_buf_append(b, p + from, len - from);
	mfs_buf_putc(b, '"');
}

/* separator: "," or "". Empty bytes are told apart from none: none is not put. */
static void put_bytes_at(struct mfs_buf *b, const char *separator, const char *name, const void *p,
			 size_t len, bool text)
{
	bool plain = text && is_plain(p, len);

	mfs_buf_puts(b, separator);
	mfs_buf_putc(b, '"');
	mfs_buf_puts(b, name);
	mfs_buf_puts(b, plain ? "\":" : ".b64\":");
	if (plain) {
		put_plain(b, p, len);
		return;
	}
	mfs_buf_putc(b, '"');
	mfs_base64_put(b, p, len);
	mfs_buf_putc(b, '"');
}

static void put_text(struct mfs_buf *b, const char *name, const char *s)
{
	if (s)
		put_bytes_at(b, ",", name, s, strlen(s), true);
}

/* One that is a field of its own and not a pointer: empty is none. */
static void put_array(struct mfs_buf *b, const char *name, const char *s)
{
	if (*s)
		put_text(b, name, s);
}

static void put_name(struct mfs_buf *b, const struct mfs_name *n)
{
	if (n->len)
		put_bytes_at(b, ",", "name", n->bytes, n->len, true);
}

static void put_blob(struct mfs_buf *b, const char *name, const struct node_blob *blob)
{
	if (blob->data)
		put_bytes_at(b, ",", name, blob->data, blob->size, false);
}

static void put_ref(struct mfs_buf *b, const struct object_ref *ref)
{
	put_u64(b, "store", ref->store);
	put_text(b, "bucket", ref->bucket);
	put_text(b, "key", ref->key);
	put_array(b, "version", ref->version);
}

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "dir";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "char";
	case S_IFBLK:
		return "block";
	default:
		return "unknown";
	}
}

static void put_xattrs(struct mfs_buf *b, const struct node *n)
{
	if (!n->n_xattrs)
		return;
	put_key(b, "xattrs");
	for (size_t i = 0; i < n->n_xattrs; i++) {
		const struct node_xattr *x = &n->xattrs[i];

		put_bytes_at(b, i ? ",{" : "[{", "n", x->name, strlen(x->name), true);
		put_bytes_at(b, ",", "v", x->value, x->size, true);
		mfs_buf_putc(b, '}');
	}
	mfs_buf_putc(b, ']');
}

static void put_times(struct mfs_buf *b, const struct mfs_attr *a)
{
	mfs_buf_puts(b, ",\"times\":{\"a\":");
	put_signed(b, a->atime);
	mfs_buf_puts(b, ",\"m\":");
	put_signed(b, a->mtime);
	mfs_buf_puts(b, ",\"c\":");
	put_signed(b, a->ctime);
	mfs_buf_puts(b, "},\"created\":");
	put_signed(b, a->btime);
}

static void put_creator(struct mfs_buf *b, const struct node *n)
{
	if (!n->creator_uid && !n->creator_user && !n->creator_host)
		return;
	mfs_buf_puts(b, ",\"creator\":{\"uid\":");
	put_digits(b, n->creator_uid);
	put_text(b, "user", n->creator_user);
	put_text(b, "host", n->creator_host);
	mfs_buf_putc(b, '}');
}

static void put_attr(struct mfs_buf *b, const struct mfs_attr *a)
{
	put_key(b, "type");
	mfs_buf_printf(b, "\"%s\"", type_name(a->mode));
	put_u64(b, "mode", a->mode);
	put_u64(b, "uid", a->uid);
	put_u64(b, "gid", a->gid);
	put_u64(b, "size", a->size);
	put_u64(b, "nlink", a->nlink);
	put_u64(b, "rdev", a->rdev);
	put_times(b, a);
	put_u64(b, "ver", a->ver);
	put_u64(b, "data", a->data);
	put_u64(b, "lay", a->lay);
	put_u64(b, "children", a->children);
	put_true(b, "shared", a->flags & ATTR_SHARED);
}

static void put_body(struct mfs_buf *b, const struct node *n)
{
	put_ref(b, &n->ref);
	put_array(b, "etag", n->etag);
	put_array(b, "hash", n->hash);
	put_u64(b, "obj_len", n->attr.obj_len);
	put_u64(b, "alloc", n->attr.alloc);
	put_blob(b, "inline", &n->inline_data);
	put_blob(b, "slices", &n->slices);
	put_blob(b, "holes", &n->holes);
	put_text(b, "target", n->symlink);
	put_i64(b, "todo", n->todo);
	put_u64(b, "pending", n->pending);
	put_u64(b, "dying", n->dying);
	put_u64(b, "quota", n->quota);
	put_blob(b, "fenced", &n->fenced);
	put_creator(b, n);
	put_text(b, "mime", n->mime);
	put_xattrs(b, n);
}

int record_put_node(struct mfs_buf *b, const struct node *n)
{
	bool in_trash = n->attr.flags & ATTR_IN_TRASH;

	begin(b, in_trash ? RECORD_TRASH_NAME : record_names[RECORD_NODE]);
	put_u64(b, "_id", n->attr.ino);
	put_u64(b, "parent", n->parent);
	put_name(b, &n->name);
	if (n->pos != n->attr.ino) {
		put_key(b, "pos");
		put_number(b, n->pos);
	}
	put_attr(b, &n->attr);
	put_body(b, n);
	put_text(b, "trash_path", n->trash_path);
	put_i64(b, "trash_time", n->trash_time);
	put_blob(b, "openers", &n->openers);
	return end(b);
}

int record_put_alias(struct mfs_buf *b, const struct alias *a)
{
	begin(b, record_names[RECORD_ALIAS]);
	put_u64(b, "_id", a->id);
	put_u64(b, "parent", a->parent);
	put_name(b, &a->name);
	put_u64(b, "target", a->target);
	return end(b);
}

int record_put_version(struct mfs_buf *b, const struct version_record *v)
{
	begin(b, record_names[RECORD_VERSION]);
	put_u64(b, "_id", v->ino);
	put_u64(b, "data", v->data);
	put_text(b, "path", v->path);
	put_ref(b, &v->ref);
	put_array(b, "etag", v->etag);
	put_u64(b, "size", v->size);
	put_u64(b, "obj_len", v->obj_len);
	put_i64(b, "mtime", v->mtime);
	put_i64(b, "replaced", v->replaced);
	put_i64(b, "until", v->until);
	put_u64(b, "mode", v->mode);
	put_u64(b, "uid", v->uid);
	put_u64(b, "gid", v->gid);
	put_u64(b, "writer", v->writer);
	put_blob(b, "inline", &v->inline_data);
	put_blob(b, "slices", &v->slices);
	return end(b);
}

int record_put_slices(struct mfs_buf *b, const struct slices_doc_record *d)
{
	begin(b, record_names[RECORD_SLICES]);
	put_u64(b, "_id", d->id);
	put_u64(b, "file", d->ino);
	put_u64(b, "session", d->session);
	put_blob(b, "slices", &d->blob);
	return end(b);
}

int record_put_dropped(struct mfs_buf *b, const struct dropped_record *d)
{
	begin(b, record_names[RECORD_DROPPED]);
	put_u64(b, "_id", d->id);
	put_u64(b, "file", d->ino);
	put_ref(b, &d->ref);
	put_u64(b, "doc", d->doc_id);
	put_i64(b, "at", d->at);
	return end(b);
}

static void put_job_key(struct mfs_buf *b, enum job_kind kind, const char *key, mfs_ino_t ino)
{
	put_key(b, "job");
	mfs_buf_printf(b, "\"%s\"", record_job_names[kind]);
	put_text(b, "key", key);
	put_u64(b, "file", ino);
}

int record_put_job(struct mfs_buf *b, const struct job_record *j)
{
	if ((unsigned int)j->kind < JOB_KEY || (unsigned int)j->kind > JOB_VIEW)
		return -EINVAL;
	begin(b, record_names[RECORD_JOB]);
	put_job_key(b, j->kind, j->key, j->ino);
	put_i64(b, "due", j->due);
	put_u64(b, "tries", j->tries);
	return end(b);
}

int record_put_session(struct mfs_buf *b, const struct session_record *s)
{
	begin(b, record_names[RECORD_SESSION]);
	put_u64(b, "_id", s->id);
	put_text(b, "host", s->host);
	put_text(b, "mountpoint", s->mountpoint);
	put_u64(b, "pid", s->pid);
	put_i64(b, "started", s->started);
	put_i64(b, "heartbeat", s->heartbeat);
	put_i64(b, "closed", s->closed);
	return end(b);
}

int record_put_cell(struct mfs_buf *b, const struct cell_record *c)
{
	begin(b, record_names[RECORD_CELL]);
	put_text(b, "name", c->name);
	put_blob(b, "value", &c->blob);
	return end(b);
}

static int put_header(struct mfs_buf *b, const struct record_header *h)
{
	begin(b, record_names[RECORD_HEADER]);
	put_key(b, "stream");
	mfs_buf_printf(b, "\"%s\"", record_stream_names[h->stream]);
	put_u64(b, "format", h->format);
	if (h->stream != RECORD_STREAM_DUMP) {
		put_u64(b, "epoch", h->epoch);
		put_u64(b, "number", h->number);
		put_u64(b, "term", h->term);
		put_u64(b, "session", h->session);
		put_sum(b, "previous", h->previous);
	}
	return end(b);
}

static int put_volume(struct mfs_buf *b, const struct record_volume *v)
{
	begin(b, record_names[RECORD_VOLUME]);
	put_array(b, "uuid", v->v.uuid);
	put_i64(b, "created", v->v.created);
	put_u64(b, "schema", v->v.schema);
	put_u64(b, "next_ino", v->next_ino);
	return end(b);
}

static int put_gone(struct mfs_buf *b, const struct record_key *k)
{
	begin(b, record_names[RECORD_GONE]);
	put_key(b, "of");
	mfs_buf_printf(b, "\"%s\"", record_names[k->kind]);
	switch (k->kind) {
	case RECORD_JOB:
		if (k->id < JOB_KEY || k->id > JOB_VIEW)
			return -EINVAL;
		put_job_key(b, (enum job_kind)k->id, k->key, k->more);
		break;
	case RECORD_VERSION:
		put_u64(b, "_id", k->id);
		put_u64(b, "data", k->more);
		break;
	case RECORD_SLICES:
		put_u64(b, "_id", k->more);
		put_u64(b, "file", k->id);
		break;
	case RECORD_CELL:
		put_text(b, "name", k->key);
		break;
	default:
		put_u64(b, "_id", k->id);
	}
	return end(b);
}

static int put_state(struct mfs_buf *b, const struct record_state *s)
{
	begin(b, record_names[RECORD_STATE]);
	put_i64(b, "complete", s->complete);
	put_u64(b, "next_ino", s->next_ino);
	put_u64(b, "session", s->session);
	put_u64(b, "next_op", s->next_op);
	put_u64(b, "until", s->until);
	if (s->until_sum)
		put_sum(b, "until_sum", s->until_sum);
	put_true(b, "clean", s->clean);
	return end(b);
}

static int put_end(struct mfs_buf *b, const struct record_end *e)
{
	begin(b, record_names[RECORD_END]);
	put_u64(b, "records", e->records);
	if (e->has_sum)
		put_sum(b, "sum", e->sum);
	return end(b);
}

int record_put(struct mfs_buf *b, const struct record *r)
{
	switch (r->kind) {
	case RECORD_HEADER:
		return put_header(b, &r->header);
	case RECORD_VOLUME:
		return put_volume(b, &r->volume);
	case RECORD_NODE:
		return record_put_node(b, &r->node);
	case RECORD_ALIAS:
		return record_put_alias(b, &r->alias);
	case RECORD_VERSION:
		return record_put_version(b, &r->version);
	case RECORD_SLICES:
		return record_put_slices(b, &r->slices);
	case RECORD_DROPPED:
		return record_put_dropped(b, &r->dropped);
	case RECORD_JOB:
		return record_put_job(b, &r->job);
	case RECORD_SESSION:
		return record_put_session(b, &r->session);
	case RECORD_CELL:
		return record_put_cell(b, &r->cell);
	case RECORD_GONE:
		return put_gone(b, &r->gone);
	case RECORD_STATE:
		return put_state(b, &r->state);
	case RECORD_END:
		return put_end(b, &r->end);
	default:
		return -EINVAL;
	}
}
