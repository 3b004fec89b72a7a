/*
 * The list of what storage rules refused: cells "failures/<time>-<number>", one JSON object each, kept as long as versions and
 * trash are. Who adds one may have it in the same change as what it tells of (ns_failure_cell).
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <jansson.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "common/base64.h"
#include "common/str.h"
#include "meta/namespace_internal.h"

#define PAGE	    256
#define PRUNE_EVERY  10000u
#define FAILURES_MAX 100000u /* some 400 bytes each */
#define CUT_PAGE     1000u
#define ADDRESS_MAX INET6_ADDRSTRLEN

/* --- one record --- */

static json_t *text_or_base64(json_t *o, const char *key, const char *text)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(NS_PATH_MAX);
	char other[40];

	if (!text)
		return o;
	if (mfs_utf8_valid(text, strlen(text))) {
		json_object_set_new(o, key, json_string(text));
		return o;
	}
	snprintf(other, sizeof(other), "%s_base64", key);
	if (mfs_base64_put(&b, text, strlen(text)) == 0)
		json_object_set_new(o, other, json_string(mfs_buf_str(&b)));
	return o;
}

/* An address of this machine that others may reach it by; of the fourth version, if there is one. "": none. */
static void own_address(char ret[static ADDRESS_MAX])
{
	struct ifaddrs *all;

	ret[0] = '\0';
	if (getifaddrs(&all) < 0)
		return;
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
		struct sockaddr_in6 six;
		struct sockaddr_in four;

		if (!(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
			continue;
		if (family == AF_INET) {
			memcpy(&four, i->ifa_addr, sizeof(four));
			inet_ntop(AF_INET, &four.sin_addr, ret, ADDRESS_MAX);
			break;
		}
		if (family != AF_INET6 || ret[0])
			continue;
		memcpy(&six, i->ifa_addr, sizeof(six));
		if (!IN6_IS_ADDR_LINKLOCAL(&six.sin6_addr))
			inet_ntop(AF_INET6, &six.sin6_addr, ret, ADDRESS_MAX);
	}
	freeifaddrs(all);
}

static void put_where(struct namespace *ns, json_t *o, const struct ns_report *p)
{
	const char *host = p->host ? p->host : ns->opt.host;
	char address[ADDRESS_MAX];

	text_or_base64(o, "host", host);
	if (p->host && (!ns->opt.host || strcmp(p->host, ns->opt.host) != 0))
		return; /* another machine's address is not known here */
	own_address(address);
	if (address[0])
		json_object_set_new(o, "address", json_string(address));
}

static char *text_of(struct namespace *ns, const struct ns_report *p, const char *id, const char *user, int64_t now)
{
	json_t *o = json_object();
	char *text;

	json_object_set_new(o, "id", json_string(id));
	json_object_set_new(o, "operation", json_string(p->operation));
	json_object_set_new(o, "kind", json_string(p->kind));
	text_or_base64(o, "path", p->path);
	if (p->ino)
		json_object_set_new(o, "ino", json_integer((json_int_t)p->ino));
	json_object_set_new(o, "uid", json_integer((json_int_t)p->uid));
	text_or_base64(o, "user", p->user ? p->user : user);
	put_where(ns, o, p);
	json_object_set_new(o, "time", json_integer(now));
	json_object_set_new(o, "reason", json_string(p->reason));
	if (p->kept) {
		json_object_set_new(o, "kept", json_true());
		json_object_set_new(o, "size", json_integer((json_int_t)p->size));
	}
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

int ns_failure_cell(struct namespace *ns, const struct ns_report *p, int64_t now, struct cell_record *ret)
{
	MFS_AUTOFREE char *user = NULL;
	uint64_t dice;
	char *text;
	int r = ns_user_name(ns, p->uid, &user);

	*ret = (struct cell_record){ 0 };
	if (r < 0)
		return r;
	if (getrandom(&dice, sizeof(dice), 0) != (ssize_t)sizeof(dice))
		dice = (uint64_t)mfs_now_ns();
	ret->token = (dice >> 1) | 1;
	ret->name = mfs_str_printf(NS_FAILURES "%019" PRId64 "-%08" PRIx32, MFS_MAX(now, INT64_C(0)), (uint32_t)(dice >> 1));
	text = ret->name ? text_of(ns, p, ns_failure_id(ret), user, now) : NULL;
	if (!text) {
		cell_record_release(ret);
		return -ENOMEM;
	}
	ret->blob = (struct node_blob){ .data = text, .size = strlen(text) };
	return 0;
}

const char *ns_failure_id(const struct cell_record *cell)
{
	return cell->name + strlen(NS_FAILURES);
}

/* --- a refusal of which nothing is kept --- */

static int record(struct namespace *ns, struct op_ctx *op, const struct ns_report *p)
{
	MFS_CLEANUP(cell_record_release) struct cell_record cell = { 0 };
	NS_AUTOOP struct ns_op x;
	int r;

	ns_op_init(&x, ns, op);
	r = ns_failure_cell(ns, p, x.now, &cell);
	if (r < 0)
		return r;
	change_write(&x.c, WRITE_CELL_PUT, 0)->cell = &cell;
	return ns_op_apply(&x);
}

/* The same refusal over and over is one record a second. */
static bool is_repeated(struct namespace *ns, uint64_t hash, bool *ret_prune)
{
	int64_t now = mfs_mono_ns();
	MFS_GUARD(&ns->lock);

	if (ns->refused_hash == hash && now - ns->refused_at < MFS_NSEC_PER_SEC)
		return true;
	ns->refused_hash = hash;
	ns->refused_at = now;
	*ret_prune = ns->n_refused++ % PRUNE_EVERY == 0;
	return false;
}

void ns_failure_log(struct op_ctx *op, const struct ns_report *p)
{
	mfs_log(MFS_LOG_META, MFS_LOG_WARN, op, "operation=%s path=%s uid=%u refused: %s; see massfs schema show, massfs failures",
		p->operation, p->path, p->uid, p->reason);
}

void namespace_refused(struct namespace *ns, struct op_ctx *op, const struct refused_name *f)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(NS_PATH_MAX);
	struct ns_report p = { .operation = f->operation, .kind = f->kind, .reason = f->reason, .uid = op->uid };
	bool do_prune = false;
	uint64_t hash = mfs_hash_u64(f->dir ^ op->uid) ^ mfs_hash64(f->name->bytes, f->name->len) ^
			mfs_hash64(f->operation, strlen(f->operation));
	int r;

	if (is_repeated(ns, hash, &do_prune))
		return;
	if (ns_path(ns, op, f->dir, f->name, &path) < 0) {
		mfs_buf_clear(&path);
		(void)mfs_buf_append(&path, f->name->bytes, f->name->len);
	}
	p.path = mfs_buf_str(&path);
	ns_failure_log(op, &p);
	r = record(ns, op, &p);
	if (r == 0 && do_prune)
		r = namespace_failures_prune(ns, op);
	if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, op, "the list of failures could not be written: %s", strerror(-r));
}

/* --- forgetting --- */

struct cut {
	struct namespace *ns;
	struct op_ctx *op;
	char bound[64];	 /* those below it go */
	uint64_t n;	 /* there are */
	uint64_t surplus; /* so many more go, of those that keep nothing */
};

static bool goes(struct cut *x, const struct cell_record *c)
{
	if (strcmp(c->name, x->bound) < 0)
		return true;
	if (!x->surplus || (c->blob.size && memmem(c->blob.data, c->blob.size, "\"kept\":true", 11)))
		return false;
	x->surplus--;
	return true;
}

/* A page of them. */
static int cut_page(struct cut *x, struct cell_list *l)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n;) {
		NS_AUTOOP struct ns_op op;

		ns_op_init(&op, x->ns, x->op);
		for (; i < l->n && op.c.n_writes < CHANGE_MAX_WRITES; i++) {
			x->n++;
			if (!goes(x, &l->v[i]))
				continue;
			x->n--;
			free(l->v[i].blob.data);
			l->v[i].blob = (struct node_blob){ 0 };
			change_write(&op.c, WRITE_CELL_PUT, 0)->cell = &l->v[i];
		}
		r = op.c.n_writes ? ns_op_apply(&op) : 0;
	}
	return r;
}

static int cut(struct cut *x)
{
	MFS_AUTOFREE char *after = NULL;
	size_t n = CUT_PAGE;
	int r = 0;

	while (r == 0 && n == CUT_PAGE) {
		struct cell_list l = { 0 };

		r = engine_cells(x->ns->e, x->op, NS_FAILURES, after, CUT_PAGE, &l);
		n = l.n;
		while (l.n && strcmp(l.v[l.n - 1].name, NS_DEMANDS) >= 0)
			cell_record_release(&l.v[--l.n]); /* namespace_demands.c's, behind all of them */
		n = l.n < n ? 0 : n;
		free(after);
		after = r == 0 && l.n ? strdup(l.v[l.n - 1].name) : NULL;
		if (r == 0)
			r = l.n && !after ? -ENOMEM : cut_page(x, &l);
		cell_list_release(&l);
	}
	return r;
}

int ns_failures_cut(struct namespace *ns, struct op_ctx *op, uint64_t max)
{
	struct cut x = { .ns = ns, .op = op };
	int64_t before = mfs_now_ns() - ns->opt.retention_ns;
	int r;

	snprintf(x.bound, sizeof(x.bound), NS_FAILURES "%019" PRId64, MFS_MAX(before, INT64_C(0)));
	r = cut(&x);
	if (r == 0 && x.n > max) {
		x.surplus = x.n - max;
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, op, "of the list of failures the oldest %" PRIu64 " go before their time: it has %" PRIu64,
			x.surplus, x.n);
		r = cut(&x);
	}
	return r == -ENOTSUP ? 0 : r;
}

int namespace_failures_prune(struct namespace *ns, struct op_ctx *op)
{
	return ns_failures_cut(ns, op, FAILURES_MAX);
}

/* --- reading --- */

static bool is_wanted(const struct failure_query *q, const struct failure *f)
{
	size_t len = q->below ? strlen(q->below) : 0;

	if (q->until && f->time > q->until)
		return false;
	if (q->by_uid && f->uid != q->uid)
		return false;
	if (q->kind && !mfs_str_eq(q->kind, f->kind))
		return false;
	if (!len)
		return true;
	return f->path && strncmp(f->path, q->below, len) == 0 && (f->path[len] == '\0' || f->path[len] == '/');
}

/* "key", or what "key_base64" stands for; owned. NULL: neither. */
static char *text_from(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));
	MFS_AUTOFREE void *bytes = NULL;
	char other[40];
	size_t len;

	if (text)
		return strdup(text);
	snprintf(other, sizeof(other), "%s_base64", key);
	text = json_string_value(json_object_get(o, other));
	return text && mfs_base64_parse(text, strlen(text), &bytes, &len) == 0 ? strndup(bytes, len) : NULL;
}

static int tell(const struct cell_record *c, const struct failure_query *q, namespace_failure_fn *fn, void *arg, size_t *told)
{
	MFS_AUTOFREE char *json = malloc(c->blob.size + 1), *path = NULL, *user = NULL, *host = NULL;
	json_t *o;
	int r = 0;

	if (!json)
		return -ENOMEM;
	if (c->blob.size)
		memcpy(json, c->blob.data, c->blob.size);
	json[c->blob.size] = '\0';
	o = json_loads(json, 0, NULL);
	if (json_is_object(o)) {
		struct failure f = { .json = json,
				     .id = ns_failure_id(c),
				     .time = json_integer_value(json_object_get(o, "time")),
				     .uid = (uid_t)json_integer_value(json_object_get(o, "uid")),
				     .kept = json_is_true(json_object_get(o, "kept")),
				     .size = (uint64_t)json_integer_value(json_object_get(o, "size")),
				     .operation = json_string_value(json_object_get(o, "operation")),
				     .kind = json_string_value(json_object_get(o, "kind")),
				     .path = path = text_from(o, "path"),
				     .user = user = text_from(o, "user"),
				     .host = host = text_from(o, "host"),
				     .address = json_string_value(json_object_get(o, "address")),
				     .reason = json_string_value(json_object_get(o, "reason")) };

		if (is_wanted(q, &f)) {
			++*told;
			r = fn(arg, &f);
		}
	}
	json_decref(o);
	return r;
}

/* Where to begin: the cursor, or the moment before `since`. */
static char *first_name(const struct failure_query *q)
{
	if (q->after)
		return mfs_str_printf(NS_FAILURES "%s", q->after);
	return mfs_str_printf(NS_FAILURES "%019" PRId64, MFS_MAX(q->since, INT64_C(0)));
}

int namespace_failures(struct namespace *ns, struct op_ctx *op, const struct failure_query *q, namespace_failure_fn *fn, void *arg)
{
	MFS_AUTOFREE char *after = first_name(q);
	size_t n = PAGE, told = 0;
	int r = after ? 0 : -ENOMEM;

	while (r == 0 && n == PAGE) {
		struct cell_list l = { 0 };

		r = atomic_load(&op->cancelled) ? -ECANCELED : engine_cells(ns->e, op, NS_FAILURES, after, PAGE, &l);
		n = l.n;
		for (size_t i = 0; r == 0 && i < l.n; i++) {
			if (strcmp(l.v[i].name, NS_DEMANDS) >= 0 || (q->limit && told == q->limit)) {
				n = 0; /* demands (namespace_demands.c) stand behind the failures */
				break;
			}
			r = tell(&l.v[i], q, fn, arg, &told);
		}
		free(after);
		after = r == 0 && n ? MFS_TAKE(l.v[l.n - 1].name) : NULL;
		cell_list_release(&l);
	}
	return r == -ENOTSUP ? 0 : r;
}
