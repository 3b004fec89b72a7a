/*
 * Pages of searches through the cache: what engine_find() gives for a term that asks for a tag. (Those of hash and times
 * change with every commit; they go to the index.)
 *
 * A page q NUMBER, in a hash of pages by (term, after, limit), is judged by
 *   the mark of the tag     some record was given it: of the name with that value where the term is an equality, else of
 *                           the name. So an edit of other tags, or of another value, leaves the page as it is
 *   the mark of all tags    a change that does not say which tags it brings (undelete; more than a set holds)
 *   the mark of each record in it, or that its ver is at or above that of the news: who loses the tag, goes, or changes in
 *                           any way takes the page with it. Who loses a tag need not say which it had
 *
 * So what is in a page now and was when it was read stands in it as it is, and what is not had no way in since. Everything
 * else (stamps, floors, lost and silent news, what others put into Redis) is as with pages of directories.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "common/op_ctx.h"
#include "meta/redis_internal.h"

#define FIELD_MAX 96

void redis_key_tag(char *key, const char *prefix, uint64_t number)
{
	snprintf(key, REDIS_KEY_MAX, "%sq%016" PRIx64, prefix, number);
}

/* --- marks --- */

void redis_mark_tags(struct redis_engine *e, const struct tag_set *tags)
{
	for (size_t i = 0; i < tags->n; i++)
		floors_mark(e->floors, floors_tag(tags->v[i]));
	if (tags->all)
		floors_mark(e->floors, floors_tags());
}

void redis_tags_of_write(const struct write *w, struct tag_set *ret)
{
	switch (w->kind) {
	case WRITE_INSERT:
		tag_set_add_node(ret, w->node);
		break;
	case WRITE_EDIT:
	case WRITE_RENAME:
		if (w->mask & EDIT_XATTRS)
			tag_set_add_node(ret, w->node);
		break;
	case WRITE_UNTRASH: /* with the tags that lay in trash */
		ret->all = true;
		break;
	default:
		break;
	}
}

/* --- which page --- */

struct page_name {
	uint64_t tag; /* number */
	char key[REDIS_KEY_MAX], field[FIELD_MAX], sealed[REDIS_KEY_MAX + FIELD_MAX];
};

/* Who asks chooses the bytes of a term, so two terms must not be confused on purpose: SHA-256. */
static int name_page(const struct expr_term *t, mfs_ino_t after, size_t limit, struct page_name *ret)
{
	const char kind[2] = { (char)('a' + t->kind), (char)('a' + (t->kind == EXPR_HAS ? 0 : t->op)) };
	bool compares = t->kind == EXPR_COMPARE;
	unsigned char sum[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	unsigned int len = 0;
	bool ok;

	ok = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) && EVP_DigestUpdate(c, kind, sizeof(kind)) &&
	     EVP_DigestUpdate(c, t->tag, strlen(t->tag) + 1) && (!compares || EVP_DigestUpdate(c, t->value, t->size)) &&
	     EVP_DigestFinal_ex(c, sum, &len) && len >= 16;
	EVP_MD_CTX_free(c);
	if (!ok)
		return -EIO;
	ret->tag = compares && t->op == OP_EQ ? tag_value_number(t->tag, strlen(t->tag), t->value, t->size) :
						tag_name_number(t->tag, strlen(t->tag));
	for (unsigned int i = 0; i < 16; i++)
		snprintf(ret->field + 2 * i, 3, "%02x", sum[i]);
	snprintf(ret->field + 32, FIELD_MAX - 32, ":%" PRIx64 ":%zx", after, limit);
	return 0;
}

static void place_page(struct page_name *p, const char *prefix)
{
	redis_key_tag(p->key, prefix, p->tag);
	snprintf(p->sealed, sizeof(p->sealed), "%s#%s", p->key, p->field);
}

/* --- asking and filling --- */

static bool judge(struct redis_engine *e, const struct redis_request *q, uint64_t tag, uint64_t stamp,
		  const struct node_list *l, size_t from)
{
	struct floors *f = e->floors;
	bool ok;
	MFS_GUARD(&f->lock);

	ok = floors_judge_locked(f, &q->view, floors_tags(), stamp, FLOORS_STAMP, 0) &&
	     floors_judge_locked(f, &q->view, floors_tag(tag), stamp, FLOORS_STAMP, 0);
	for (size_t i = from; ok && i < l->n; i++)
		ok = floors_judge_locked(f, &q->view, floors_record(l->v[i].attr.ino), stamp, FLOORS_AT_LEAST, l->v[i].attr.ver);
	e->old += !ok;
	return ok;
}

static bool use_page(struct redis_engine *e, struct redis_request *q, const struct page_name *p, const redisReply *part,
		     size_t limit, struct node_list *ret, struct redis_asked *a)
{
	size_t before = ret->n;
	struct redis_value v;

	if (!redis_open_value(e, q, p->sealed, part, &v, &a->force[0]) || v.head.kind != VALUE_FIND ||
	    value_get_find(v.payload, v.len, ret) < 0)
		return false;
	if (ret->n - before <= limit && judge(e, q, p->tag, v.head.stamp, ret, before))
		return true;
	while (ret->n > before)
		node_release(&ret->v[--ret->n]);
	return false;
}

static bool cached(struct redis_engine *e, struct page_name *p, size_t limit, struct node_list *ret, struct redis_asked *a)
{
	redisReply *reply = NULL;
	struct redis_request q;
	bool hit = false;

	if (!redis_ask(e, &q))
		return false;
	place_page(p, q.prefix);
	if (redis_get_page(e, &q, p->key, p->field, &reply)) {
		hit = use_page(e, &q, p, reply->element[2], limit, ret, a);
		a->view = q.view;
		freeReplyObject(reply);
	}
	redis_end(e, &q);
	redis_count(e, hit);
	return hit;
}

static void fill(struct redis_engine *e, const struct redis_asked *a, struct page_name *p, const struct node *v, size_t n)
{
	const struct value_head h = { .kind = VALUE_FIND, .stamp = a->view.t };
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(REDIS_FIND_MAX);
	struct redis_request q;

	if (a->view.t == 0)
		return;
	value_put_head(&b, &h);
	if (value_put_find(&b, v, n) < 0 || !redis_begin_fill(e, a, &q))
		return;
	place_page(p, q.prefix);
	redis_fill_page(e, a, &q, p->key, p->sealed, p->field, REDIS_FINDS, &b);
	redis_end(e, &q);
}

int redis_find(struct engine *base, struct op_ctx *op, const struct expr_term *t, mfs_ino_t after, size_t limit,
	       struct node_list *ret)
{
	struct redis_engine *e = redis_of(base);
	struct redis_asked a = { 0 };
	size_t before = ret->n;
	struct page_name p;
	int r;

	if (t->field != FIELD_TAG || (op && op->fresh) || name_page(t, after, limit, &p) < 0)
		return engine_find(e->inner, op, t, after, limit, ret);
	if (cached(e, &p, limit, ret, &a))
		return 0;
	r = engine_find(e->inner, op, t, after, limit, ret);
	if (r == 0)
		fill(e, &a, &p, ret->v + before, ret->n - before);
	return r;
}
