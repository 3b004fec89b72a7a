/* The text of a search becomes an expression: a hand-written parser that goes down by precedence, with bounds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/buf.h"
#include "common/str.h"
#include "meta/expr_internal.h"

#define NUL_BYTE "a NUL byte cannot be searched for"

enum token { TOK_END, TOK_WORD, TOK_OPEN, TOK_CLOSE, TOK_OP, TOK_BAD };

struct parser {
	const char *text;
	size_t len, at;
	const struct expr_env *env;

	/* The token that comes next. */
	enum token token;
	size_t start;	  /* where it begins */
	struct mfs_buf word;
	bool quoted, tagged; /* the word: any of it in quotes; begins with a bare tag: */
	enum expr_op op;

	struct expr *out;
	size_t cap;
	unsigned int depth;

	size_t bad_at;
	const char *why; /* static; NULL: no syntax error */
};

static int bad(struct parser *p, size_t at, const char *why)
{
	if (!p->why) {
		p->why = why;
		p->bad_at = at;
	}
	return -EINVAL;
}

static bool ends_word(char c)
{
	return c == '\0' || strchr(" \t\n\r()=!<>~", c);
}

/* One backslash pair inside quotes, or outside. */
static int take_escape(struct parser *p)
{
	char c;

	if (p->at + 1 >= p->len)
		return bad(p, p->at, "a backslash at the end stands for nothing");
	c = p->text[p->at + 1];
	if (c == '\0')
		return bad(p, p->at + 1, NUL_BYTE);
	p->at += 2;
	if (c == 'n')
		c = '\n';
	else if (c == 't')
		c = '\t';
	return mfs_buf_putc(&p->word, c);
}

static int take_quoted(struct parser *p)
{
	size_t start = p->at;
	char quote = p->text[p->at++];

	p->quoted = true;
	while (p->at < p->len && p->text[p->at] != quote) {
		if (p->text[p->at] == '\0')
			return bad(p, p->at, NUL_BYTE);
		int r = p->text[p->at] == '\\' ? take_escape(p) : mfs_buf_putc(&p->word, p->text[p->at++]);

		if (r < 0)
			return r;
	}
	if (p->at == p->len)
		return bad(p, start, "this quote is not closed");
	p->at++;
	return 0;
}

static int take_word(struct parser *p)
{
	int r = 0;

	mfs_buf_clear(&p->word);
	p->quoted = p->tagged = false;
	while (r == 0 && p->at < p->len && !ends_word(p->text[p->at])) {
		char c = p->text[p->at];

		if (c == '"' || c == '\'')
			r = take_quoted(p);
		else if (c == '\\') {
			p->quoted = true;
			r = take_escape(p);
		} else {
			r = mfs_buf_putc(&p->word, c);
			p->at++;
			if (!p->quoted && p->word.len == 4 && strncasecmp(p->word.data, "tag:", 4) == 0) {
				p->tagged = true;
				mfs_buf_clear(&p->word);
			}
		}
	}
	if (r < 0)
		return r;
	p->token = TOK_WORD;
	if (p->word.len == 0)
		return bad(p, p->start, p->tagged ? "tag: wants a name behind it" : "an empty name or value says nothing; "
			   "leave the comparison out to ask whether the tag is there");
	return 0;
}

static int take_op(struct parser *p)
{
	static const struct {
		char text[3];
		enum expr_op op;
	} ops[] = { { "==", OP_EQ }, { "!=", OP_NE }, { "<=", OP_LE }, { ">=", OP_GE },
		    { "=", OP_EQ },  { "<", OP_LT },  { ">", OP_GT },  { "~", OP_MATCH } };

	for (size_t i = 0; i < MFS_ARRAY_LEN(ops); i++) {
		size_t n = strlen(ops[i].text);

		if (p->len - p->at >= n && memcmp(p->text + p->at, ops[i].text, n) == 0) {
			p->at += n;
			p->op = ops[i].op;
			p->token = TOK_OP;
			return 0;
		}
	}
	return bad(p, p->at, "a single ! is no comparison: write != or not");
}

static int next(struct parser *p)
{
	while (p->at < p->len && strchr(" \t\n\r", p->text[p->at]) && p->text[p->at])
		p->at++;
	p->start = p->at;
	if (p->at == p->len) {
		p->token = TOK_END;
		return 0;
	}
	switch (p->text[p->at]) {
	case '\0':
		return bad(p, p->at, NUL_BYTE);
	case '(':
		p->at++;
		p->token = TOK_OPEN;
		return 0;
	case ')':
		p->at++;
		p->token = TOK_CLOSE;
		return 0;
	case '=':
	case '!':
	case '<':
	case '>':
	case '~':
		return take_op(p);
	default:
		return take_word(p);
	}
}

static bool is_keyword(const struct parser *p, const char *word)
{
	return p->token == TOK_WORD && !p->quoted && !p->tagged && strcasecmp(mfs_buf_str(&p->word), word) == 0;
}

/* A term at the end; its index, or -errno. The term's strings become the expression's. */
static int add(struct parser *p, const struct expr_term *t)
{
	struct expr *e = p->out;

	if (e->n == EXPR_NODES_MAX)
		return bad(p, p->start, "the expression has too many parts");
	if (e->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 8;
		struct expr_term *v = reallocarray(e->terms, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		e->terms = v;
		p->cap = cap;
	}
	e->terms[e->n] = *t;
	return e->n++;
}

static int parse_or(struct parser *p);

static int finish_term(struct parser *p, struct expr_term *t, size_t value_at)
{
	const char *why = NULL;
	int r = t->kind == EXPR_COMPARE ? expr_value_set(t, p->env, &why) : 0;

	if (r < 0)
		return why ? bad(p, value_at, why) : r;
	return add(p, t);
}

/* NAME [ OP VALUE ]; the name is the token at hand. */
static int parse_term(struct parser *p)
{
	struct expr_term t = { .kind = EXPR_HAS };
	size_t name_at = p->start, value_at = 0;
	int r;

	t.field = p->quoted || p->tagged ? FIELD_TAG : expr_field_of(mfs_buf_str(&p->word));
	if (t.field == FIELD_TAG) {
		if (p->word.len > MFS_XATTR_NAME_MAX - 5)
			return bad(p, name_at, "no tag has so long a name");
		t.tag = mfs_buf_take(&p->word);
		if (!t.tag)
			return -ENOMEM;
	}
	r = next(p);
	if (r == 0 && p->token == TOK_OP) {
		t.kind = EXPR_COMPARE;
		t.op = p->op;
		r = next(p);
		value_at = p->start;
		if (r == 0 && p->token != TOK_WORD)
			r = bad(p, value_at, "a value is missing here");
		if (r == 0) {
			t.size = p->word.len;
			t.value = mfs_buf_take(&p->word);
			r = t.value ? next(p) : -ENOMEM;
		}
	} else if (r == 0 && t.field != FIELD_TAG && t.field != FIELD_MIME && t.field != FIELD_HASH) {
		r = bad(p, name_at, "every file has this field: compare it with something (a tag of this name is tag:NAME)");
	}
	if (r == 0)
		r = finish_term(p, &t, value_at);
	if (r < 0) {
		free(t.tag);
		free(t.value);
	}
	return r;
}

static int parse_not(struct parser *p)
{
	int r;

	if (++p->depth > EXPR_DEPTH_MAX) {
		r = bad(p, p->start, "parentheses and nots are nested too deeply");
	} else if (is_keyword(p, "not")) {
		r = next(p);
		r = r < 0 ? r : parse_not(p);
		if (r >= 0)
			r = add(p, &(struct expr_term){ .kind = EXPR_NOT, .a = (uint16_t)r });
	} else if (p->token == TOK_OPEN) {
		size_t open = p->start;
		int inner;

		r = next(p);
		inner = r < 0 ? r : parse_or(p);
		r = inner;
		if (r >= 0 && p->token != TOK_CLOSE)
			r = bad(p, open, "this parenthesis is not closed");
		if (r >= 0)
			r = next(p);
		r = r < 0 ? r : inner;
	} else if (p->token == TOK_WORD && !is_keyword(p, "and") && !is_keyword(p, "or")) {
		r = parse_term(p);
	} else {
		r = bad(p, p->start, p->token == TOK_END ? "the expression ends where a tag or a field should stand" :
							    "a tag or a field should stand here");
	}
	p->depth--;
	return r;
}

static int join(struct parser *p, enum expr_kind kind, int a, int b)
{
	return b < 0 ? b : add(p, &(struct expr_term){ .kind = kind, .a = (uint16_t)a, .b = (uint16_t)b });
}

static bool begins_operand(const struct parser *p)
{
	return p->token == TOK_OPEN || (p->token == TOK_WORD && !is_keyword(p, "or"));
}

static int parse_and(struct parser *p)
{
	int r = parse_not(p);

	while (r >= 0 && begins_operand(p)) {
		int a = r;

		if (is_keyword(p, "and")) {
			r = next(p);
			if (r < 0)
				return r;
		}
		r = join(p, EXPR_AND, a, parse_not(p));
	}
	return r;
}

static int parse_or(struct parser *p)
{
	int r = parse_and(p);

	while (r >= 0 && is_keyword(p, "or")) {
		int a = r;

		r = next(p);
		r = r < 0 ? r : join(p, EXPR_OR, a, parse_and(p));
	}
	return r;
}

static int parse(struct parser *p)
{
	int r = next(p);

	r = r < 0 ? r : parse_or(p);
	if (r >= 0 && p->token == TOK_CLOSE)
		return bad(p, p->start, "this parenthesis was not opened");
	if (r >= 0 && p->token != TOK_END)
		return bad(p, p->start, "a comparison has to stand between a name and a value");
	if (r >= 0)
		p->out->root = (uint16_t)r;
	return r;
}

int expr_parse(const char *text, size_t len, const struct expr_env *env, struct expr **ret, size_t *ret_column,
	       char **ret_reason)
{
	struct parser p = { .text = text, .len = len, .env = env, .word = MFS_BUF_INIT(EXPR_TEXT_MAX) };
	int r;

	*ret_reason = NULL;
	*ret_column = 1;
	p.out = calloc(1, sizeof(*p.out));
	if (!p.out)
		return -ENOMEM;
	r = len > EXPR_TEXT_MAX ? bad(&p, EXPR_TEXT_MAX, "the expression is too long") : parse(&p);
	mfs_buf_release(&p.word);
	if (r >= 0) {
		*ret = p.out;
		return 0;
	}
	expr_free(p.out);
	if (p.why) {
		*ret_column = p.bad_at + 1;
		*ret_reason = strdup(p.why);
		r = *ret_reason ? -EINVAL : -ENOMEM;
	}
	return r;
}

void expr_free(struct expr *e)
{
	if (!e)
		return;
	for (uint16_t i = 0; i < e->n; i++) {
		free(e->terms[i].tag);
		free(e->terms[i].value);
	}
	free(e->terms);
	free(e);
}
