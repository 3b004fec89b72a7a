/* What stands right of a comparison, made what the field compares: sizes, moments, users, types, numbers. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "common/clock.h"
#include "common/str.h"
#include "meta/expr_internal.h"
#include "meta/tags.h"

static const struct {
	const char *name;
	enum expr_field field;
} fields[] = {
	{ "name", FIELD_NAME },	      { "path", FIELD_PATH },	{ "size", FIELD_SIZE }, { "mtime", FIELD_MTIME },
	{ "created", FIELD_CREATED }, { "owner", FIELD_OWNER }, { "type", FIELD_TYPE }, { "mime", FIELD_MIME },
	{ "hash", FIELD_HASH },
};

enum expr_field expr_field_of(const char *name)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(fields); i++)
		if (strcasecmp(fields[i].name, name) == 0)
			return fields[i].field;
	return FIELD_TAG;
}

const char *expr_field_name(enum expr_field f)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(fields); i++)
		if (fields[i].field == f)
			return fields[i].name;
	return NULL;
}

const char *expr_op_text(enum expr_op op)
{
	static const char *const text[] = { [OP_EQ] = "=",  [OP_NE] = "!=", [OP_LT] = "<",    [OP_LE] = "<=",
					    [OP_GT] = ">", [OP_GE] = ">=", [OP_MATCH] = "~" };

	return text[op];
}

static int one(struct expr_term *t, int64_t v)
{
	if (v == INT64_MAX)
		return -EINVAL;
	t->low = v;
	t->high = v + 1;
	return 0;
}

static int set_size(struct expr_term *t, const char **why)
{
	uint64_t v;

	if (mfs_str_size(t->value, &v) < 0 || v >= INT64_MAX) {
		*why = "a size is a number with a unit behind it, as 4096, 10K, 1.5G";
		return -EINVAL;
	}
	return one(t, (int64_t)v);
}

static int set_type(struct expr_term *t, const char **why)
{
	static const struct {
		const char *letter, *word;
		mode_t type;
	} types[] = { { "f", "file", S_IFREG }, { "d", "dir", S_IFDIR },   { "l", "link", S_IFLNK }, { "p", "fifo", S_IFIFO },
		      { "s", "socket", S_IFSOCK }, { "c", "char", S_IFCHR }, { "b", "block", S_IFBLK } };

	if (t->op != OP_EQ && t->op != OP_NE) {
		*why = "a type is compared with = or !=";
		return -EINVAL;
	}
	for (size_t i = 0; i < MFS_ARRAY_LEN(types); i++)
		if (strcasecmp(t->value, types[i].letter) == 0 || strcasecmp(t->value, types[i].word) == 0)
			return one(t, types[i].type);
	*why = "a type is one of f d l p s c b (or file dir link fifo socket char block)";
	return -EINVAL;
}

static int set_owner(struct expr_term *t, const struct expr_env *env, const char **why)
{
	uint64_t number;
	uint32_t uid;

	if (t->op != OP_EQ && t->op != OP_NE) {
		*why = "an owner is compared with = or !=";
		return -EINVAL;
	}
	if (mfs_str_uint(t->value, 10, 0, UINT32_MAX, &number) == 0)
		return one(t, (int64_t)number);
	if (env->user && env->user(env->arg, t->value, &uid))
		return one(t, uid);
	*why = "there is no user of this name (a number may stand here as well)";
	return -EINVAL;
}

/* "2026-11-21[Tm09[:15[:30]]][Z]": the seconds in which it begins and ends; local time without the Z. */
static bool calendar(const char *s, int64_t *low, int64_t *high)
{
	struct tm tm = { .tm_isdst = -1 };
	int used = 0, step = 86400, n;
	bool utc;
	time_t at;

	if (!isdigit((unsigned char)*s) || sscanf(s, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &used) != 3 || used != 10)
		return false;
	s += used;
	if (*s == 'T' || *s == 't' || *s == ' ') {
		used = 0;
		n = sscanf(s + 1, "%2d:%2d%n", &tm.tm_hour, &tm.tm_min, &used);
		if (n != 2 || used != 5)
			return false;
		s += 1 + used;
		step = 60;
		if (*s == ':') {
			used = 0;
			if (sscanf(s + 1, "%2d%n", &tm.tm_sec, &used) != 1 || used != 2)
				return false;
			s += 1 + used;
			step = 1;
		}
	}
	utc = *s == 'Z' || *s == 'z';
	if (s[utc] || tm.tm_year < 1 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	n = tm.tm_mday;
	at = utc ? timegm(&tm) : mktime(&tm);
	if (tm.tm_mday != n) /* the 31st of a month that has none; at midnight a clock that is set forward stays on its day */
		return false;
	*low = at;
	*high = *low + step;
	return true;
}

static int set_time(struct expr_term *t, const struct expr_env *env, const char **why)
{
	const int64_t limit = INT64_MAX / MFS_NSEC_PER_SEC - 1;
	int64_t ago, low, high;

	if (t->op == OP_MATCH) {
		*why = "a moment is compared with = != < <= > or >=";
		return -EINVAL;
	}
	if (t->value[0] == '-' && mfs_str_duration(t->value + 1, &ago) == 0 && env->now >= INT64_MIN + ago)
		return one(t, env->now - ago);
	if (calendar(t->value, &low, &high) && low > -limit && high < limit) {
		t->low = low * MFS_NSEC_PER_SEC;
		t->high = high * MFS_NSEC_PER_SEC;
		return 0;
	}
	*why = "a moment is a day (2026-11-21), a time of it (2026-11-21T09:15:00, with Z for UTC), or an age (-7d)";
	return -EINVAL;
}

int expr_value_set(struct expr_term *t, const struct expr_env *env, const char **ret_why)
{
	switch (t->field) {
	case FIELD_TAG:
		t->is_number = tag_number(t->value, t->size, &t->real);
		return 0;
	case FIELD_SIZE:
		if (t->op == OP_MATCH) {
			*ret_why = "a size is compared with = != < <= > or >=";
			return -EINVAL;
		}
		return set_size(t, ret_why);
	case FIELD_MTIME:
	case FIELD_CREATED:
		return set_time(t, env, ret_why);
	case FIELD_OWNER:
		return set_owner(t, env, ret_why);
	case FIELD_TYPE:
		return set_type(t, ret_why);
	case FIELD_NAME:
	case FIELD_PATH:
	case FIELD_MIME:
	case FIELD_HASH:
		return 0;
	}
	return -EINVAL;
}
