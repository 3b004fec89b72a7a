/* What the parser of expressions and its values share. Private to meta/expr_*. */
#ifndef MASSFS_META_EXPR_INTERNAL_H
#define MASSFS_META_EXPR_INTERNAL_H

#include "meta/expr.h"

/* The text of a value, made what its field compares: low, high, is_number. 0, or -EINVAL with why (static text). */
int expr_value_set(struct expr_term *t, const struct expr_env *env, const char **ret_why);

/* FIELD_TAG when it is none. */
enum expr_field expr_field_of(const char *name);
const char *expr_field_name(enum expr_field f);
const char *expr_op_text(enum expr_op op);

#endif
