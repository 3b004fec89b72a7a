/*
 * The language of searches: parsed from text, evaluated on a record, printed again.
 *
 *   EXPR  = OR                       OR  = AND { or AND }          AND = NOT { [and] NOT }
 *   NOT   = not NOT | ( OR ) | TERM  TERM = NAME [ OP VALUE ]      OP  = = == != < <= > >= ~
 *
 * NAME alone asks whether there is such a tag. The names of fields (name path size mtime created owner type mime hash)
 * are not tags; a tag that is called as a field, or as and, or, not, is written tag:NAME. Names and values are bare words
 * or stand in quotes ("..." or '...'), where a backslash takes the next byte as it is (\n is a newline). Keywords and names
 * of fields are taken in any case, tags as they are written.
 *
 * Tags: `=` compares bytes; != means the tag is there and has another value; < <= > >= compare numbers where the value in
 * the expression is one (a tag that is none does not match), else bytes; ~ is a shell pattern (* ? [a-z] [!a-z] and the backslash).
 * Fields: name and path (as shown, bytes; ~ a pattern, in a path * goes over slashes); size ("10M"); mtime and created (a
 * moment, "2026-11-21" or "2026-11-21T09:15[:30][Z]" or "-7d", which is 7 days ago: = means within that day, minute or
 * second); owner (a user's name or number); type (f d l p s c b, or file dir link fifo socket char block); mime; hash.
 * mime and hash alone ask whether they are known.
 */
#ifndef MASSFS_META_EXPR_H
#define MASSFS_META_EXPR_H

#include "meta/node.h"

#define EXPR_TEXT_MAX  16384
#define EXPR_NODES_MAX 512
#define EXPR_DEPTH_MAX 64

enum expr_kind { EXPR_AND, EXPR_OR, EXPR_NOT, EXPR_HAS, EXPR_COMPARE };
enum expr_field {
	FIELD_TAG,
	FIELD_NAME,
	FIELD_PATH,
	FIELD_SIZE,
	FIELD_MTIME,
	FIELD_CREATED,
	FIELD_OWNER,
	FIELD_TYPE,
	FIELD_MIME,
	FIELD_HASH,
};
enum expr_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_MATCH };

struct expr_term {
	enum expr_kind kind;
	uint16_t a, b; /* AND, OR: the operands; NOT: a */
	enum expr_field field;
	enum expr_op op;
	char *tag; /* FIELD_TAG: its name without "user."; owned */
	char *value; /* as written, unquoted, NUL-terminated; owned. Only COMPARE */
	size_t size; /* of value, without the NUL */
	bool is_number; /* FIELD_TAG: real is the value */
	double real;
	/* size, times, owner, type: the value is [low, high). For owner and type high is low + 1. */
	int64_t low, high;
};

struct expr {
	struct expr_term *terms; /* owned; operands stand before those that name them */
	uint16_t n, root;
};

struct expr_env {
	int64_t now; /* wall time: of "-7d" */
	/* The uid of a user's name: true. NULL: numbers only. */
	bool (*user)(void *arg, const char *name, uint32_t *ret_uid);
	void *arg;
};

/*
 * Parse. -EINVAL with the column (from 1, in bytes) and a sentence in *ret_reason (owned by the caller) that says what is
 * wrong there; -ENOMEM. An empty text is -EINVAL.
 */
int expr_parse(const char *text, size_t len, const struct expr_env *env, struct expr **ret, size_t *ret_column,
	       char **ret_reason) MFS_NODISCARD;
void expr_free(struct expr *e); /* NULL: nothing */
#define MFS_AUTOEXPR MFS_CLEANUP(expr_cleanup)
static inline void expr_cleanup(struct expr **e)
{
	expr_free(*e);
}

/* Does it ask for the path anywhere (the caller must know it then)? */
bool expr_needs_path(const struct expr *e);

/* What is looked at: a whole record, the name that is asked about, and its path (NULL unless expr_needs_path). */
struct expr_subject {
	const struct node *node;
	const struct mfs_name *name; /* NULL: the record's own */
	const char *path;	     /* without leading slash */
};
bool expr_matches(const struct expr *e, const struct expr_subject *s);

/* The shell pattern of ~, by itself. */
bool expr_pattern_matches(const char *pattern, const void *bytes, size_t len);

/*
 * The part of an expression that an index can answer: records that match it are a superset of those that match the whole.
 * A plan is a union of such parts (an "or" of indexed ones); each hit is then filtered by expr_matches().
 */
struct expr_part {
	const struct expr_term *term; /* a COMPARE or a HAS, not negated */
};
struct expr_plan {
	struct expr_part part[8];
	unsigned int n; /* 0: nothing in it has an index */
};
/* `indexed` says which fields have an index (bit 1 << enum expr_field), and which kinds of comparison: of tags = and
 * presence and ordered ones; of the others = and ordered ones. `rows` says how many rows an index has for a term, at most
 * EXPR_ROWS_MAX (that many or more): the parts with the fewest are taken. It is asked only where there is a choice, and 16
 * times at most; NULL: equality before ranges, before presence. */
#define EXPR_ROWS_MAX 10000
typedef uint64_t (*expr_rows_fn)(void *arg, const struct expr_term *t);
void expr_plan(const struct expr *e, uint32_t indexed, expr_rows_fn rows, void *arg, struct expr_plan *ret);

/* Bytes without a NUL as a quoted name or value, appended; see mfs_buf_append() for errors. */
struct mfs_buf;
int expr_quote(struct mfs_buf *b, const void *bytes, size_t size);
/* The expression as text that parses to the same. -ENOMEM, -EFBIG. */
int expr_print(const struct expr *e, struct mfs_buf *ret) MFS_NODISCARD;

#endif
