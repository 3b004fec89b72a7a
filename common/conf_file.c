/*
 * A volume's .conf: INI as libinih reads it, with our own line reader beneath, so that a message can name the line
 * and a line that libinih would break in two is refused.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/conf_keys.h"
#include "common/str.h"

#define CONF_FILE_MAX (1u << 20)
#define NOT_INI	      "neither a [section] nor a \"key = value\" nor a comment (# or ;)"
#define MAX_KEYS      128 /* more than the table has */

struct reader {
	struct mfs_config *config;
	const char *name; /* of the file, in messages */
	const char *at, *end;
	unsigned int line;
	bool seen[MAX_KEYS];
	char **ret_reason;
	int r; /* the first failure */
};

static int fail_at(struct reader *rd, int r, const char *fmt, ...) MFS_PRINTF(3, 4);
static int fail_at(struct reader *rd, int r, const char *fmt, ...)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(4096);
	va_list ap;

	if (rd->r)
		return rd->r; /* the first one counts */
	va_start(ap, fmt);
	mfs_buf_vprintf(&text, fmt, ap);
	va_end(ap);
	rd->r = mfs_fail(rd->ret_reason, r, "%s:%u: %s", rd->name, rd->line, mfs_buf_str(&text));
	return rd->r;
}

/*
 * libinih goes on behind a line that it cannot read and tells of it at the end, when another complaint may hide it:
 * so lines are looked at here first. What begins with a space may be the rest of the line above.
 */
static bool is_plausible(const char *line)
{
	if (mfs_str_starts(line, "\xef\xbb\xbf"))
		line += 3;
	if (strspn(line, " \t\r\n") || !*line || *line == '#' || *line == ';')
		return true;
	return *line == '[' ? strchr(line, ']') != NULL : strpbrk(line, "=:") != NULL;
}

/* fgets() over the text in memory. Ends at the first failure. */
static char *read_line(char *buf, int size, void *arg)
{
	struct reader *rd = arg;
	const char *nl;
	size_t len;

	if (rd->r || rd->at == rd->end || size < 2)
		return NULL;
	rd->line++;
	nl = memchr(rd->at, '\n', (size_t)(rd->end - rd->at));
	len = (size_t)((nl ? nl + 1 : rd->end) - rd->at);
	if (memchr(rd->at, '\0', len)) {
		fail_at(rd, -EINVAL, "a NUL byte: this is not a text file");
		return NULL;
	}
	if (len > (size_t)size - 1) {
		fail_at(rd, -EINVAL, "line longer than %d bytes", size - 2);
		return NULL;
	}
	memcpy(buf, rd->at, len);
	buf[len] = '\0';
	rd->at += len;
	if (!is_plausible(buf)) {
		fail_at(rd, -EINVAL, NOT_INI);
		return NULL;
	}
	return buf;
}

static void list_names(struct mfs_buf *out, unsigned int where)
{
	const struct conf_key *k;

	for (size_t i = 0; (k = conf_key_at(i)); i++)
		if (k->where & where)
			mfs_buf_printf(out, "%s%s", out->len ? " " : "", k->name);
}

static bool was_seen(struct reader *rd, const struct conf_key *k)
{
	size_t i = (size_t)(k - conf_key_at(0));
	bool was;

	assert(i < MAX_KEYS);
	was = rd->seen[i];
	rd->seen[i] = true;
	return was;
}

/* In a file a flag has a value: "ro = yes". "no" leaves the default. */
static int set_flag(struct reader *rd, const struct conf_key *k, const char *value)
{
	bool on;

	if (mfs_str_bool(value, &on) < 0)
		return fail_at(rd, -EINVAL, "key '%s': '%s' is not allowed, must be yes or no", k->name,
			       value);
	if (!on)
		return 0;
	if (k->kind == KIND_RO)
		rd->config->conf_ro = true;
	return conf_key_set(rd->config, k, NULL, NULL);
}

static int set_options(struct reader *rd, const char *value)
{
	MFS_AUTOFREE char *reason = NULL;

	if (mfs_config_parse_options(rd->config, value, false, NULL, &reason) < 0)
		return fail_at(rd, -EINVAL, "key 'options': %s", reason ? reason : "no memory");
	rd->config->conf_ro |= rd->config->ro;
	return 0;
}

static int set_key(struct reader *rd, const struct conf_key *k, const char *value)
{
	MFS_AUTOBUF struct mfs_buf why = MFS_BUF_INIT(1024);
	int r;

	if (conf_key_is_flag(k))
		return set_flag(rd, k, value);
	r = conf_key_set(rd->config, k, value, &why);
	if (r == -ENOMEM)
		return fail_at(rd, r, "no memory");
	if (r < 0)
		return fail_at(rd, -EINVAL, "key '%s': '%s' is not allowed, must be %s", k->name, value,
			       mfs_buf_str(&why));
	return k->kind == KIND_OPTIONS ? set_options(rd, value) : 0;
}

/* libinih's handler: 1 is success. */
static int handle_key(void *arg, const char *section, const char *name, const char *value)
{
	MFS_AUTOBUF struct mfs_buf names = MFS_BUF_INIT(8192);
	struct reader *rd = arg;
	const struct conf_key *k;
	unsigned int where = 0;

	if (rd->r)
		return 0;
	if (!strcmp(section, "volume"))
		where = IN_VOLUME;
	else if (!strcmp(section, "mount"))
		where = IN_MOUNT;
	if (!where) {
		fail_at(rd, -EINVAL, "key '%s' in section [%s]: there are [volume] and [mount] only", name,
			section);
		return 0;
	}
	k = conf_key_find(name, strlen(name));
	if (!k || !(k->where & where)) {
		list_names(&names, where);
		fail_at(rd, -EINVAL, "unknown key '%s' in [%s]; there are: %s", name, section,
			mfs_buf_str(&names));
		return 0;
	}
	if (was_seen(rd, k)) {
		fail_at(rd, -EINVAL,
			"key '%s' given twice (a line that begins with a space goes on with the one above)",
			name);
		return 0;
	}
	return set_key(rd, k, value) == 0;
}

int mfs_config_parse_text(struct mfs_config *c, const char *text, size_t len, const char *name,
			  char **ret_reason)
{
	struct reader rd = {
		.config = c, .name = name, .at = text, .end = text + len, .ret_reason = ret_reason
	};
	int line;

	line = ini_parse_stream(read_line, &rd, handle_key, &rd);
	if (rd.r)
		return rd.r;
	if (line < 0)
		return mfs_fail(ret_reason, -ENOMEM, "%s: no memory", name);
	if (line > 0) {
		rd.line = (unsigned int)line;
		return fail_at(&rd, -EINVAL,
			       "neither a [section] nor a \"key = value\" nor a comment (# or ;)");
	}
	return 0;
}

int mfs_config_read_file(struct mfs_config *c, const char *path, char **ret_reason)
{
	MFS_AUTOBUF struct mfs_buf text = MFS_BUF_INIT(CONF_FILE_MAX);
	struct stat st;
	int fd, r;

	/* O_NONBLOCK: a fifo in its place must not stop us. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return mfs_fail(ret_reason, -errno, "%s: %m", path);
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	else
		r = mfs_buf_read_fd(&text, fd);
	close(fd);
	if (r == -EFBIG)
		return mfs_fail(ret_reason, r, "%s: bigger than %u bytes: this is no .conf", path,
				CONF_FILE_MAX);
	if (r < 0)
		return mfs_fail(ret_reason, r, "%s: %s", path,
				r == -EINVAL ? "not a regular file" : strerror(-r));
	return mfs_config_parse_text(c, mfs_buf_str(&text), text.len, path, ret_reason);
}

int mfs_conf_check_private(const char *path, char **ret_reason)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return mfs_fail(ret_reason, -errno, "%s: %m", path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return mfs_fail(ret_reason, -EACCES,
				"%s: holds secrets, but belongs to user %u: chown root it", path, st.st_uid);
	if (st.st_mode & 027)
		return mfs_fail(ret_reason, -EACCES,
				"%s: holds secrets, but its mode is %04o: chmod 0600 (or 0640) it", path,
				st.st_mode & 07777);
	return 0;
}
