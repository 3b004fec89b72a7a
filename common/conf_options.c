/*
 * The argument of -o: options with commas between them, name or name=value.
 *
 * "\," and "\\" stand for themselves in a value, and a value in double quotes may hold commas (as libmount has it for
 * context="..."). Later ones win.
 */
#include <errno.h>
#include <string.h>

#include "common/conf.h"
#include "common/conf_keys.h"

/* The next option, unescaped, into *ret; moves *p behind it. */
static int next_option(const char **p, struct mfs_buf *ret)
{
	bool quoted = false, in_value = false;
	const char *s = *p;

	mfs_buf_clear(ret);
	for (; *s && (quoted || *s != ','); s++) {
		if (*s == '\\' && (s[1] == ',' || s[1] == '\\' || s[1] == '"')) {
			s++;
		} else if (*s == '"' && in_value && (quoted || s[-1] == '=')) {
			quoted = !quoted;
			continue;
		} else if (*s == '=') {
			in_value = true;
		}
		mfs_buf_putc(ret, *s);
	}
	*p = *s ? s + 1 : s;
	return ret->err;
}

static int set_option(struct mfs_config *c, const char *text, bool sloppy, struct mfs_buf *warnings,
		      char **ret_reason)
{
	MFS_AUTOBUF struct mfs_buf why = MFS_BUF_INIT(1024);
	const char *eq = strchr(text, '=');
	size_t len = eq ? (size_t)(eq - text) : strlen(text);
	const struct conf_key *k = conf_key_find(text, len);
	int r;

	if (!k || !(k->where & IN_OPTIONS)) {
		if (!sloppy)
			return mfs_fail(ret_reason, -EINVAL,
					k ? "option '%.*s' belongs into a .conf file"
					  : "unknown option '%.*s'",
					(int)len, text);
		if (warnings)
			mfs_buf_printf(warnings, "unknown option '%.*s' ignored (-s)\n", (int)len, text);
		return 0;
	}
	if (eq && conf_key_is_flag(k))
		return mfs_fail(ret_reason, -EINVAL, "option '%.*s' takes no value", (int)len, text);
	r = conf_key_set(c, k, eq ? eq + 1 : NULL, &why);
	if (r == -ENOMEM)
		return mfs_fail(ret_reason, r, "no memory");
	if (r < 0)
		return mfs_fail(ret_reason, -EINVAL, "option '%s': must be %s", text, mfs_buf_str(&why));
	return 0;
}

int mfs_config_parse_options(struct mfs_config *c, const char *options, bool sloppy, struct mfs_buf *warnings,
			     char **ret_reason)
{
	MFS_AUTOBUF struct mfs_buf option = MFS_BUF_INIT(64 * 1024);
	int r;

	while (*options) {
		r = next_option(&options, &option);
		if (r < 0)
			return mfs_fail(ret_reason, r, "-o: %s",
					r == -EFBIG ? "an option is too long" : "no memory");
		if (!option.len)
			continue;
		r = set_option(c, mfs_buf_str(&option), sloppy, warnings, ret_reason);
		if (r < 0)
			return r;
	}
	return 0;
}
