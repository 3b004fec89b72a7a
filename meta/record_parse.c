/*
 * Lines of JSON as records. Everything may be wrong with a line; what is, is said.
 *
 * Values are fetched by name from jansson's object; the first fault is kept in the parser and makes all later fetches
 * give nothing, so a record's fields are read in a row and the outcome is looked at once.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base64.h"
#include "common/str.h"
#include "meta/record_internal.h"

struct parser {
	int err;
	char **reason;
};

static void fail(struct parser *p, int err, const char *fmt, ...) MFS_PRINTF(3, 4);
static void fail(struct parser *p, int err, const char *fmt, ...)
{
	va_list ap;

	if (p->err < 0)
		return;
	p->err = err;
	va_start(ap, fmt);
	if (vasprintf(p->reason, fmt, ap) < 0)
		*p->reason = NULL;
	va_end(ap);
}

/* jansson's own limit is 2048 levels of recursion. */
static bool is_too_deep(const char *line, size_t len)
{
	unsigned int depth = 0;
	bool in_text = false;

	for (size_t i = 0; i < len; i++) {
		if (in_text) {
			if (line[i] == '\\')
				i++;
			else if (line[i] == '"')
				in_text = false;
		} else if (line[i] == '"') {
			in_text = true;
		} else if (line[i] == '{' || line[i] == '[') {
			if (++depth > RECORD_DEPTH_MAX)
				return true;
		} else if (line[i] == '}' || line[i] == ']') {
			depth -= depth > 0;
		}
	}
	return false;
}

static uint64_t get_u64(struct parser *p, json_t *o, const char *name, uint64_t max)
{
	json_t *v = json_object_get(o, name);
	uint64_t n = 0;

	if (!v || p->err < 0)
		return 0;
	if (json_is_integer(v) && json_integer_value(v) >= 0)
		n = (uint64_t)json_integer_value(v);
	else if (!json_is_string(v) || mfs_str_uint(json_string_value(v), 10, 0, UINT64_MAX, &n) < 0)
		fail(p, -EINVAL, "field \"%s\" is no number from 0 on", name);
	if (n > max)
		fail(p, -EINVAL, "field \"%s\" is above %" PRIu64, name, max);
	return n;
}

static uint32_t get_u32(struct parser *p, json_t *o, const char *name)
{
	return (uint32_t)get_u64(p, o, name, UINT32_MAX);
}

static int64_t get_i64(struct parser *p, json_t *o, const char *name)
{
	json_t *v = json_object_get(o, name);

	if (!v || p->err < 0)
		return 0;
	if (!json_is_integer(v)) {
		fail(p, -EINVAL, "field \"%s\" is no whole number", name);
		return 0;
	}
	return json_integer_value(v);
}

static bool get_bool(struct parser *p, json_t *o, const char *name)
{
	json_t *v = json_object_get(o, name);

	if (v && !json_is_boolean(v))
		fail(p, -EINVAL, "field \"%s\" is neither true nor false", name);
	return json_is_true(v);
}

/* The text of NAME, or the bytes of NAME.b64; owned, with a NUL behind them. NULL: absent (or a fault). */
static char *get_bytes(struct parser *p, json_t *o, const char *name, size_t max, size_t *ret_len)
{
	char coded_name[32];
	json_t *v, *coded;
	void *bytes = NULL;
	int r = 0;

	snprintf(coded_name, sizeof(coded_name), "%s.b64", name);
	v = json_object_get(o, name);
	coded = json_object_get(o, coded_name);
	*ret_len = 0;
	if (p->err < 0 || (!v && !coded))
		return NULL;
	if (v && coded) {
		fail(p, -EINVAL, "fields \"%s\" and \"%s\" are both there", name, coded_name);
	} else if (!json_is_string(v ? v : coded)) {
		fail(p, -EINVAL, "field \"%s\" is no text", v ? name : coded_name);
	} else if (v) {
		*ret_len = json_string_length(v);
		bytes = strndup(json_string_value(v), *ret_len); /* jansson refuses \u0000 */
		r = bytes ? 0 : -ENOMEM;
	} else {
		r = mfs_base64_parse(json_string_value(coded), json_string_length(coded), &bytes, ret_len);
	}
	if (r < 0)
		fail(p, r, r == -EINVAL ? "field \"%s\" is no base64" : "field \"%s\": no memory",
		     coded_name);
	if (p->err == 0 && *ret_len > max)
		fail(p, -EINVAL, "field \"%s\" has %zu bytes; %zu is the most", name, *ret_len, max);
	if (p->err < 0) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

static char *get_text(struct parser *p, json_t *o, const char *name, size_t max)
{
	size_t len;
	char *s = get_bytes(p, o, name, max, &len);

	if (s && strlen(s) != len) {
		fail(p, -EINVAL, "field \"%s\" has a zero byte", name);
		free(s);
		return NULL;
	}
	return s;
}

static void get_array(struct parser *p, json_t *o, const char *name, char *buf, size_t size)
{
	char *s = get_text(p, o, name, size - 1);

	if (s)
		memcpy(buf, s, strlen(s) + 1);
	free(s);
}

static void get_blob(struct parser *p, json_t *o, const char *name, struct node_blob *ret)
{
	ret->data = get_bytes(p, o, name, RECORD_LINE_MAX, &ret->size);
}

static void get_name(struct parser *p, json_t *o, struct mfs_name *ret)
{
	size_t len;
	char *s = get_bytes(p, o, "name", RECORD_LINE_MAX, &len);

	if (s && mfs_name_set(ret, s, len) < 0)
		fail(p, -EINVAL, "field \"name\" is no name of a file");
	free(s);
}

static void get_ref(struct parser *p, json_t *o, struct object_ref *ret)
{
	ret->store = (uint16_t)get_u64(p, o, "store", UINT16_MAX);
	ret->bucket = get_text(p, o, "bucket", RECORD_LINE_MAX);
	ret->key = get_text(p, o, "key", RECORD_LINE_MAX);
	get_array(p, o, "version", ret->version, sizeof(ret->version));
}

static uint64_t get_sum(struct parser *p, json_t *o, const char *name)
{
	char *s = get_text(p, o, name, 32), tail;
	uint64_t v = 0;

	if (!s)
		return 0;
	if (strlen(s) != 21 || sscanf(s, "xxh3:%16" SCNx64 "%c", &v, &tail) != 1)
		fail(p, -EINVAL, "field \"%s\" is no checksum", name);
	free(s);
	return v;
}

static json_t *get_object(struct parser *p, json_t *o, const char *name)
{
	json_t *v = json_object_get(o, name);

	if (v && !json_is_object(v)) {
		fail(p, -EINVAL, "field \"%s\" is no object", name);
		return NULL;
	}
	return v;
}

static int find_word(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; word && i < n; i++)
		if (words[i] && strcmp(word, words[i]) == 0)
			return (int)i;
	return -1;
}

static int get_word(struct parser *p, json_t *o, const char *name, const char *const *words, size_t n)
{
	int i = find_word(json_string_value(json_object_get(o, name)), words, n);

	if (i < 0)
		fail(p, -EINVAL, "field \"%s\" is none of the words it may be", name);
	return MFS_MAX(i, 0);
}

/* What must be there and not 0. */
static uint64_t need_id(struct parser *p, json_t *o, const char *name)
{
	uint64_t id = get_u64(p, o, name, INT64_MAX);

	if (id == 0)
		fail(p, -EINVAL, "field \"%s\" is missing", name);
	return id;
}

static void parse_xattrs(struct parser *p, json_t *o, struct node *n)
{
	json_t *all = json_object_get(o, "xattrs"), *x;
	size_t i;

	if (all && !json_is_array(all))
		fail(p, -EINVAL, "field \"xattrs\" is no array");
	json_array_foreach(all, i, x)
	{
		size_t size = 0;
		char *name = get_text(p, x, "n", MFS_XATTR_NAME_MAX);
		char *value = get_bytes(p, x, "v", MFS_XATTR_SIZE_MAX, &size);

		if (!name || !value || !*name)
			fail(p, -EINVAL, "an extended attribute has no name or no value");
		else if (node_xattr_set(n, name, value, size) < 0)
			fail(p, -EINVAL, "extended attribute %s: no room for it", name);
		free(name);
		free(value);
	}
}

static void parse_attr(struct parser *p, json_t *o, struct mfs_attr *a)
{
	json_t *times = get_object(p, o, "times");

	a->mode = get_u32(p, o, "mode");
	a->uid = get_u32(p, o, "uid");
	a->gid = get_u32(p, o, "gid");
	a->size = get_u64(p, o, "size", INT64_MAX);
	a->nlink = get_u32(p, o, "nlink");
	a->rdev = get_u64(p, o, "rdev", UINT64_MAX);
	a->atime = get_i64(p, times, "a");
	a->mtime = get_i64(p, times, "m");
	a->ctime = get_i64(p, times, "c");
	a->btime = get_i64(p, o, "created");
	a->ver = get_u64(p, o, "ver", UINT64_MAX);
	a->data = get_u64(p, o, "data", UINT64_MAX);
	a->lay = get_u64(p, o, "lay", UINT64_MAX);
	a->children = get_u32(p, o, "children");
	a->obj_len = get_u64(p, o, "obj_len", INT64_MAX);
	a->alloc = get_u64(p, o, "alloc", INT64_MAX);
	if (get_bool(p, o, "shared"))
		a->flags |= ATTR_SHARED;
}

static void parse_body(struct parser *p, json_t *o, struct node *n)
{
	json_t *creator = get_object(p, o, "creator");

	get_ref(p, o, &n->ref);
	get_array(p, o, "etag", n->etag, sizeof(n->etag));
	get_array(p, o, "hash", n->hash, sizeof(n->hash));
	get_blob(p, o, "inline", &n->inline_data);
	get_blob(p, o, "slices", &n->slices);
	get_blob(p, o, "holes", &n->holes);
	get_blob(p, o, "fenced", &n->fenced);
	n->symlink = get_text(p, o, "target", RECORD_LINE_MAX);
	n->todo = get_i64(p, o, "todo");
	n->pending = get_u64(p, o, "pending", UINT64_MAX);
	n->dying = get_u64(p, o, "dying", UINT64_MAX);
	n->quota = get_u64(p, o, "quota", UINT64_MAX);
	n->creator_uid = get_u32(p, creator, "uid");
	n->creator_user = get_text(p, creator, "user", RECORD_LINE_MAX);
	n->creator_host = get_text(p, creator, "host", RECORD_LINE_MAX);
	n->mime = get_text(p, o, "mime", RECORD_LINE_MAX);
	parse_xattrs(p, o, n);
}

static void parse_node(struct parser *p, json_t *o, struct node *n, bool in_trash)
{
	n->attr.ino = need_id(p, o, "_id");
	n->parent = get_u64(p, o, "parent", INT64_MAX);
	get_name(p, o, &n->name);
	n->pos = json_object_get(o, "pos") ? get_u64(p, o, "pos", INT64_MAX) : n->attr.ino;
	parse_attr(p, o, &n->attr);
	parse_body(p, o, n);
	n->trash_path = get_text(p, o, "trash_path", RECORD_LINE_MAX);
	n->trash_time = get_i64(p, o, "trash_time");
	get_blob(p, o, "openers", &n->openers);
	node_derive(n);
	if (in_trash)
		n->attr.flags |= ATTR_IN_TRASH;
	if (p->err == 0 && (n->parent == 0) != (n->name.len == 0))
		fail(p, -EINVAL, "\"parent\" and \"name\" go together");
	if (p->err == 0 && in_trash && n->parent)
		fail(p, -EINVAL, "a removed file has a name");
}

static void parse_alias(struct parser *p, json_t *o, struct alias *a)
{
	a->id = need_id(p, o, "_id");
	a->parent = need_id(p, o, "parent");
	a->target = need_id(p, o, "target");
	get_name(p, o, &a->name);
	if (a->name.len == 0)
		fail(p, -EINVAL, "field \"name\" is missing");
}

static void parse_version(struct parser *p, json_t *o, struct version_record *v)
{
	v->ino = need_id(p, o, "_id");
	v->data = get_u64(p, o, "data", INT64_MAX);
	v->path = get_text(p, o, "path", RECORD_LINE_MAX);
	get_ref(p, o, &v->ref);
	get_array(p, o, "etag", v->etag, sizeof(v->etag));
	v->size = get_u64(p, o, "size", INT64_MAX);
	v->obj_len = get_u64(p, o, "obj_len", INT64_MAX);
	v->mtime = get_i64(p, o, "mtime");
	v->replaced = get_i64(p, o, "replaced");
	v->until = get_i64(p, o, "until");
	v->mode = get_u32(p, o, "mode");
	v->uid = get_u32(p, o, "uid");
	v->gid = get_u32(p, o, "gid");
	v->writer = get_u32(p, o, "writer");
	get_blob(p, o, "inline", &v->inline_data);
	get_blob(p, o, "slices", &v->slices);
}

static void parse_slices(struct parser *p, json_t *o, struct slices_doc_record *d)
{
	d->id = need_id(p, o, "_id");
	d->ino = need_id(p, o, "file");
	d->session = get_u64(p, o, "session", INT64_MAX);
	get_blob(p, o, "slices", &d->blob);
}

static void parse_dropped(struct parser *p, json_t *o, struct dropped_record *d)
{
	d->id = need_id(p, o, "_id");
	d->ino = get_u64(p, o, "file", INT64_MAX);
	get_ref(p, o, &d->ref);
	d->doc_id = get_u64(p, o, "doc", INT64_MAX);
	d->at = get_i64(p, o, "at");
}

static void parse_job(struct parser *p, json_t *o, struct job_record *j)
{
	j->kind = (enum job_kind)get_word(p, o, "job", record_job_names, MFS_ARRAY_LEN(record_job_names));
	j->key = get_text(p, o, "key", RECORD_LINE_MAX);
	j->ino = get_u64(p, o, "file", INT64_MAX);
	j->due = get_i64(p, o, "due");
	j->tries = get_u32(p, o, "tries");
	if (p->err == 0 && (j->kind == JOB_KEY) != (j->key != NULL))
		fail(p, -EINVAL, "field \"key\" goes with a job \"key\" and with no other");
}

static void parse_session(struct parser *p, json_t *o, struct session_record *s)
{
	s->id = need_id(p, o, "_id");
	s->host = get_text(p, o, "host", RECORD_LINE_MAX);
	s->mountpoint = get_text(p, o, "mountpoint", RECORD_LINE_MAX);
	s->pid = get_u32(p, o, "pid");
	s->started = get_i64(p, o, "started");
	s->heartbeat = get_i64(p, o, "heartbeat");
	s->closed = get_i64(p, o, "closed");
}

static void parse_cell(struct parser *p, json_t *o, struct cell_record *c)
{
	c->name = get_text(p, o, "name", RECORD_LINE_MAX);
	get_blob(p, o, "value", &c->blob);
	c->token = 1; /* nobody knows a token from before */
	if (p->err == 0 && (!c->name || !c->blob.size))
		fail(p, -EINVAL, "a cell needs a name and a value");
}

static void parse_header(struct parser *p, json_t *o, struct record_header *h)
{
	h->stream = (enum record_stream_kind)get_word(p, o, "stream", record_stream_names,
						      MFS_ARRAY_LEN(record_stream_names));
	h->format = get_u32(p, o, "format");
	h->epoch = get_u64(p, o, "epoch", INT64_MAX);
	h->number = get_u64(p, o, "number", INT64_MAX);
	h->session = get_u64(p, o, "session", INT64_MAX);
	h->term = get_u64(p, o, "term", INT64_MAX);
	h->previous = get_sum(p, o, "previous");
	if (h->format == 0 || h->format > RECORD_FORMAT)
		fail(p, -EINVAL, "format %u is not known to this version of massfs (it has %u)", h->format,
		     RECORD_FORMAT);
}

static void parse_volume(struct parser *p, json_t *o, struct record_volume *v)
{
	v->v.schema = get_u32(p, o, "schema");
	get_array(p, o, "uuid", v->v.uuid, sizeof(v->v.uuid));
	v->v.created = get_i64(p, o, "created");
	v->next_ino = get_u64(p, o, "next_ino", INT64_MAX);
}

static void parse_gone(struct parser *p, json_t *o, struct record_key *k)
{
	k->kind = (enum record_kind)get_word(p, o, "of", record_names, MFS_ARRAY_LEN(record_names));
	if (k->kind == RECORD_JOB) {
		k->id = (uint64_t)get_word(p, o, "job", record_job_names, MFS_ARRAY_LEN(record_job_names));
		k->key = get_text(p, o, "key", RECORD_LINE_MAX);
		k->more = get_u64(p, o, "file", INT64_MAX);
	} else if (k->kind == RECORD_CELL) {
		k->key = get_text(p, o, "name", RECORD_LINE_MAX);
		if (p->err == 0 && !k->key)
			fail(p, -EINVAL, "a cell needs a name");
	} else if (k->kind == RECORD_SLICES) {
		k->id = need_id(p, o, "file");
		k->more = need_id(p, o, "_id");
	} else {
		k->id = need_id(p, o, "_id");
		k->more = k->kind == RECORD_VERSION ? get_u64(p, o, "data", INT64_MAX) : 0;
	}
}

static void parse_state(struct parser *p, json_t *o, struct record_state *s)
{
	s->complete = get_i64(p, o, "complete");
	s->next_ino = get_u64(p, o, "next_ino", INT64_MAX);
	s->session = get_u64(p, o, "session", INT64_MAX);
	s->next_op = get_u64(p, o, "next_op", INT64_MAX);
	s->until = get_u64(p, o, "until", INT64_MAX);
	s->until_sum = json_object_get(o, "until_sum") ? get_sum(p, o, "until_sum") : 0;
	s->clean = get_bool(p, o, "clean");
}

static void parse_end(struct parser *p, json_t *o, struct record_end *e)
{
	e->records = get_u64(p, o, "records", UINT64_MAX);
	e->has_sum = json_object_get(o, "sum") != NULL;
	e->sum = get_sum(p, o, "sum");
}

static void parse_kind(struct parser *p, json_t *o, struct record *ret)
{
	const char *kind = json_string_value(json_object_get(o, "r"));
	bool in_trash = kind && strcmp(kind, RECORD_TRASH_NAME) == 0;
	int i = in_trash ? RECORD_NODE : find_word(kind, record_names, RECORD_N_KINDS);

	if (i < 0) {
		fail(p, -EINVAL, "the kind of record (\"r\") is missing or not known");
		return;
	}
	ret->kind = (enum record_kind)i;
	switch (ret->kind) {
	case RECORD_HEADER:
		return parse_header(p, o, &ret->header);
	case RECORD_VOLUME:
		return parse_volume(p, o, &ret->volume);
	case RECORD_NODE:
		return parse_node(p, o, &ret->node, in_trash);
	case RECORD_ALIAS:
		return parse_alias(p, o, &ret->alias);
	case RECORD_VERSION:
		return parse_version(p, o, &ret->version);
	case RECORD_SLICES:
		return parse_slices(p, o, &ret->slices);
	case RECORD_DROPPED:
		return parse_dropped(p, o, &ret->dropped);
	case RECORD_JOB:
		return parse_job(p, o, &ret->job);
	case RECORD_SESSION:
		return parse_session(p, o, &ret->session);
	case RECORD_CELL:
		return parse_cell(p, o, &ret->cell);
	case RECORD_GONE:
		return parse_gone(p, o, &ret->gone);
	case RECORD_STATE:
		return parse_state(p, o, &ret->state);
	default:
		return parse_end(p, o, &ret->end);
	}
}

int record_parse(const char *line, size_t len, struct record *ret, char **ret_reason)
{
	struct parser p = { .reason = ret_reason };
	json_error_t at;
	json_t *o = NULL;

	*ret_reason = NULL;
	memset(ret, 0, sizeof(*ret));
	ret->kind = RECORD_END; /* owns nothing */
	if (len > RECORD_LINE_MAX)
		fail(&p, -EINVAL, "it is longer than %u bytes", RECORD_LINE_MAX);
	else if (is_too_deep(line, len))
		fail(&p, -EINVAL, "it is nested deeper than %d", RECORD_DEPTH_MAX);
	else
		o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &at);
	if (p.err == 0 && !o)
		fail(&p, json_error_code(&at) == json_error_out_of_memory ? -ENOMEM : -EINVAL,
		     "%s at byte %d", at.text, at.position);
	else if (p.err == 0 && !json_is_object(o))
		fail(&p, -EINVAL, "it is no object");
	if (p.err == 0)
		parse_kind(&p, o, ret);
	json_decref(o);
	if (p.err < 0)
		record_release(ret);
	return p.err;
}

void record_key_release(struct record_key *k)
{
	free(k->key);
	*k = (struct record_key){ 0 };
}

void record_release(struct record *r)
{
	switch (r->kind) {
	case RECORD_NODE:
		node_release(&r->node);
		break;
	case RECORD_VERSION:
		version_record_release(&r->version);
		break;
	case RECORD_SLICES:
		slices_doc_record_release(&r->slices);
		break;
	case RECORD_DROPPED:
		dropped_record_release(&r->dropped);
		break;
	case RECORD_JOB:
		job_record_release(&r->job);
		break;
	case RECORD_SESSION:
		session_record_release(&r->session);
		break;
	case RECORD_CELL:
		cell_record_release(&r->cell);
		break;
	case RECORD_GONE:
		record_key_release(&r->gone);
		break;
	default:
		break;
	}
	r->kind = RECORD_END;
}
