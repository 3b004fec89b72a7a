/* Does a record match an expression; what of an expression an index can answer; the expression as text. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "meta/expr_internal.h"
#include "meta/tags.h"

static bool compare_order(enum expr_op op, int order)
{
	switch (op) {
	case OP_EQ:
		return order == 0;
	case OP_NE:
		return order != 0;
	case OP_LT:
		return order < 0;
	case OP_LE:
		return order <= 0;
	case OP_GT:
		return order > 0;
	case OP_GE:
		return order >= 0;
	case OP_MATCH:
		break;
	}
	return false;
}

/* The value of the term is all of [low, high): a day, a second, one number. */
static bool compare_range(const struct expr_term *t, int64_t v)
{
	return compare_order(t->op, v < t->low ? -1 : v >= t->high);
}

static int compare_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* [set] at p: does c belong to it? *ret_end: behind the bracket; NULL: it is not closed, so [ is an ordinary byte. */
static bool in_set(const char *p, unsigned char c, const char **ret_end)
{
	bool negated = p[1] == '!' || p[1] == '^', hit = false;
	const char *at = p + 1 + negated;

	for (bool first = true; *at && (*at != ']' || first); first = false) {
		unsigned char low = (unsigned char)(*at == '\\' && at[1] ? *++at : *at), high = low;

		at++;
		if (at[0] == '-' && at[1] && at[1] != ']') {
			at++;
			high = (unsigned char)(*at == '\\' && at[1] ? *++at : *at);
			at++;
		}
		hit |= c >= low && c <= high;
	}
	*ret_end = *at ? at + 1 : NULL;
	return hit != negated;
}

/* One byte of text against what stands at p (no star): behind it, or NULL. */
static const char *match_one(const char *p, unsigned char c)
{
	const char *end;
	bool hit;

	switch (*p) {
	case '\0':
		return NULL;
	case '?':
		return p + 1;
	case '[':
		hit = in_set(p, c, &end);
		if (end)
			return hit ? end : NULL;
		break;
	case '\\':
		if (p[1])
			p++;
		break;
	}
	return (unsigned char)*p == c ? p + 1 : NULL;
}

/*
 * A shell pattern on bytes: * ? [a-z] [!a-z] and a backslash. Not fnmatch(3), which takes exponential time for some
 * patterns, and anybody's may be asked for here: this goes back to the last star only, so at most pattern x text steps.
 */
bool expr_pattern_matches(const char *p, const void *bytes, size_t len)
{
	const unsigned char *text = bytes;
	const char *star = NULL;
	size_t i = 0, back = 0;

	while (i < len) {
		const char *then = *p == '*' ? NULL : match_one(p, text[i]);

		if (*p == '*') {
			star = ++p;
			back = i;
		} else if (then) {
			p = then;
			i++;
		} else if (star) {
			p = star;
			i = ++back;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return *p == '\0';
}

static bool compare_text(const struct expr_term *t, const void *bytes, size_t len)
{
	if (t->op == OP_MATCH)
		return expr_pattern_matches(t->value, bytes, len);
	return compare_order(t->op, compare_bytes(bytes, len, t->value, t->size));
}

static bool tag_value_matches(const struct expr_term *t, const struct tag *tag)
{
	double v;

	if (t->op != OP_EQ && t->op != OP_NE && t->op != OP_MATCH && t->is_number) {
		if (!tag_number(tag->value, tag->size, &v))
			return false;
		return compare_order(t->op, v < t->real ? -1 : v > t->real);
	}
	return compare_text(t, tag->value, tag->size);
}

static int tag_hit(void *arg, const struct tag *tag)
{
	const struct expr_term *t = arg;

	if (strlen(t->tag) != tag->name_len || memcmp(t->tag, tag->name, tag->name_len) != 0)
		return 0;
	return t->kind == EXPR_HAS || (!tag->bare && tag_value_matches(t, tag));
}

static bool text_matches(const struct expr_term *t, const char *text)
{
	if (!text || !*text)
		return false;
	return t->kind == EXPR_HAS || compare_text(t, text, strlen(text));
}

static bool term_matches(const struct expr_term *t, const struct expr_subject *s)
{
	const struct node *n = s->node;
	const struct mfs_name *name = s->name ? s->name : &n->name;

	switch (t->field) {
	case FIELD_TAG:
		/* The parser's term is not written to by tag_hit. */
		return node_each_tag(n, tag_hit, (void *)(uintptr_t)t) != 0;
	case FIELD_NAME:
		return compare_text(t, name->bytes, name->len);
	case FIELD_PATH:
		return s->path && compare_text(t, s->path, strlen(s->path));
	case FIELD_SIZE:
		return S_ISREG(n->attr.mode) && compare_range(t, (int64_t)n->attr.size);
	case FIELD_MTIME:
		return compare_range(t, n->attr.mtime);
	case FIELD_CREATED:
		return compare_range(t, n->attr.btime);
	case FIELD_OWNER:
		return compare_range(t, n->attr.uid);
	case FIELD_TYPE:
		return compare_range(t, n->attr.mode & S_IFMT);
	case FIELD_MIME:
		return text_matches(t, n->mime);
	case FIELD_HASH:
		return text_matches(t, n->hash);
	}
	return false;
}

static bool matches(const struct expr *e, uint16_t i, const struct expr_subject *s)
{
	const struct expr_term *t = &e->terms[i];

	switch (t->kind) {
	case EXPR_AND:
		return matches(e, t->a, s) && matches(e, t->b, s);
	case EXPR_OR:
		return matches(e, t->a, s) || matches(e, t->b, s);
	case EXPR_NOT:
		return !matches(e, t->a, s);
	case EXPR_HAS:
	case EXPR_COMPARE:
		return term_matches(t, s);
	}
	return false;
}

bool expr_matches(const struct expr *e, const struct expr_subject *s)
{
	return matches(e, e->root, s);
}

bool expr_needs_path(const struct expr *e)
{
	for (uint16_t i = 0; i < e->n; i++)
		if (e->terms[i].kind >= EXPR_HAS && e->terms[i].field == FIELD_PATH)
			return true;
	return false;
}

/* What a plan costs, roughly: smaller is better. */
#define COST_EQUAL 1
#define COST_RANGE 100
#define COST_HAS   200
#define COST_NONE  1000000000

static unsigned int term_cost(const struct expr_term *t, uint32_t indexed)
{
	if (!(indexed & 1u << t->field))
		return COST_NONE;
	if (t->kind == EXPR_HAS)
		return COST_HAS;
	switch (t->op) {
	case OP_EQ:
		return t->field == FIELD_MTIME || t->field == FIELD_CREATED ? COST_RANGE : COST_EQUAL;
	case OP_LT:
	case OP_LE:
	case OP_GT:
	case OP_GE:
		return COST_RANGE;
	case OP_NE:
	case OP_MATCH:
		return t->field == FIELD_TAG ? COST_HAS : COST_NONE;
	}
	return COST_NONE;
}

#define ROWS_ASKED 16 /* each is a question to the index: terms after these are judged by their kind */

struct planning {
	const struct expr *e;
	uint32_t indexed;
	expr_rows_fn rows;
	void *arg;
	bool choice; /* an "and" had indexed parts on both sides: what they cost matters */
	unsigned int asked;
};

/* Rows where they are known; of those that have too many to be counted, and without counts, by kind. */
static unsigned int rows_cost(struct planning *x, const struct expr_term *t)
{
	unsigned int cost = term_cost(t, x->indexed);
	uint64_t rows;

	if (cost >= COST_NONE || !x->rows)
		return cost;
	if (x->asked++ >= ROWS_ASKED)
		return EXPR_ROWS_MAX + cost;
	rows = x->rows(x->arg, t);
	return rows >= EXPR_ROWS_MAX ? EXPR_ROWS_MAX + cost : (unsigned int)rows;
}

static unsigned int plan(struct planning *x, uint16_t i, struct expr_plan *ret)
{
	const struct expr_term *t = &x->e->terms[i];
	struct expr_plan other = { .n = 0 };
	unsigned int cost, cost2;

	ret->n = 0;
	switch (t->kind) {
	case EXPR_AND:
		cost = plan(x, t->a, ret);
		cost2 = plan(x, t->b, &other);
		x->choice |= cost < COST_NONE && cost2 < COST_NONE;
		if (cost2 < cost)
			*ret = other;
		return cost2 < cost ? cost2 : cost;
	case EXPR_OR:
		cost = plan(x, t->a, ret);
		cost2 = plan(x, t->b, &other);
		if (cost >= COST_NONE || cost2 >= COST_NONE || ret->n + other.n > MFS_ARRAY_LEN(ret->part)) {
			ret->n = 0;
			return COST_NONE;
		}
		memcpy(ret->part + ret->n, other.part, other.n * sizeof(other.part[0]));
		ret->n += other.n;
		return cost + cost2;
	case EXPR_NOT:
		return COST_NONE;
	case EXPR_HAS:
	case EXPR_COMPARE:
		cost = rows_cost(x, t);
		if (cost < COST_NONE) {
			ret->part[0] = (struct expr_part){ .term = t };
			ret->n = 1;
		}
		return cost;
	}
	return COST_NONE;
}

void expr_plan(const struct expr *e, uint32_t indexed, expr_rows_fn rows, void *arg, struct expr_plan *ret)
{
	struct planning x = { .e = e, .indexed = indexed };
	unsigned int cost = plan(&x, e->root, ret);

	if (x.choice && rows) {
		x.rows = rows;
		x.arg = arg;
		cost = plan(&x, e->root, ret);
	}
	if (cost >= COST_NONE)
		ret->n = 0;
}

int expr_quote(struct mfs_buf *b, const void *bytes, size_t size)
{
	const char *s = bytes;

	mfs_buf_putc(b, '"');
	for (size_t i = 0; i < size; i++) {
		if (s[i] == '"' || s[i] == '\\')
			mfs_buf_putc(b, '\\');
		mfs_buf_putc(b, s[i]);
	}
	return mfs_buf_putc(b, '"');
}

static int print(const struct expr *e, uint16_t i, struct mfs_buf *b)
{
	const struct expr_term *t = &e->terms[i];

	switch (t->kind) {
	case EXPR_AND:
	case EXPR_OR:
		mfs_buf_putc(b, '(');
		(void)print(e, t->a, b);
		mfs_buf_puts(b, t->kind == EXPR_AND ? " and " : " or ");
		(void)print(e, t->b, b);
		return mfs_buf_putc(b, ')');
	case EXPR_NOT:
		mfs_buf_puts(b, "not ");
		return print(e, t->a, b);
	case EXPR_HAS:
	case EXPR_COMPARE:
		break;
	}
	if (t->field == FIELD_TAG)
		(void)expr_quote(b, t->tag, strlen(t->tag));
	else
		mfs_buf_puts(b, expr_field_name(t->field));
	if (t->kind == EXPR_HAS)
		return b->err;
	mfs_buf_puts(b, expr_op_text(t->op));
	return expr_quote(b, t->value, t->size);
}

int expr_print(const struct expr *e, struct mfs_buf *ret)
{
	(void)print(e, e->root, ret);
	return ret->err;
}
