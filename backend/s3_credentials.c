/*
 * Finding the keys.
 */
#include "backend/s3_credentials.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/conf.h"
#include "common/str.h"

#define FILE_MAX (64 << 10)

static void wipe(char **s)
{
	if (*s)
		OPENSSL_cleanse(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

void s3_credentials_release(struct s3_credentials *c)
{
	wipe(&c->access_key);
	wipe(&c->secret_key);
	wipe(&c->token);
}

/* Printable, and nothing that could end a header. */
static bool is_plain(const char *s)
{
	if (!*s || strlen(s) > 4096)
		return false;
	for (; *s; s++)
		if (!isgraph((unsigned char)*s))
			return false;
	return true;
}

static int take(const char *access_key, const char *secret_key, const char *token, struct s3_credentials *ret)
{
	struct s3_credentials c = { 0 };

	if (!is_plain(access_key) || strchr(access_key, '/') || !is_plain(secret_key) || (token && !is_plain(token)))
		return -EINVAL;
	c.access_key = strdup(access_key);
	c.secret_key = strdup(secret_key);
	c.token = token ? strdup(token) : NULL;
	if (!c.access_key || !c.secret_key || (token && !c.token)) {
		s3_credentials_release(&c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

/* The whole of a file that holds secrets; the caller wipes it. */
static int read_private(const char *path, struct mfs_buf *b, char **ret_reason)
{
	int fd, r = mfs_conf_check_private(path, ret_reason);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return mfs_fail(ret_reason, -errno, "%s: %s", path, strerror(errno));
	r = mfs_buf_read_fd(b, fd);
	close(fd);
	return r < 0 ? mfs_fail(ret_reason, r, "%s: %s", path, strerror(-r)) : 0;
}

static void buf_wipe(struct mfs_buf *b)
{
	if (b->data)
		OPENSSL_cleanse(b->data, b->len);
	mfs_buf_release(b);
}

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t\r");
	len = strlen(s);
	while (len && strchr(" \t\r", s[len - 1]))
		s[--len] = '\0';
	return s;
}

int s3_credentials_of_passwd(char *text, struct s3_credentials *ret)
{
	char *line, *save = NULL;

	for (; (line = strtok_r(text, "\n", &save)); text = NULL) {
		char *secret, *token;

		line = trim(line);
		if (!*line || *line == '#')
			continue;
		secret = strchr(line, ':');
		if (!secret)
			return -EINVAL;
		*secret++ = '\0';
		token = strchr(secret, ':');
		if (token)
			*token++ = '\0';
		return take(line, secret, token, ret);
	}
	return -EINVAL;
}

static int from_passwd(const char *path, struct s3_credentials *ret, char **ret_reason)
{
	struct mfs_buf b = MFS_BUF_INIT(FILE_MAX);
	int r = read_private(path, &b, ret_reason);

	if (r == 0) {
		r = b.data ? s3_credentials_of_passwd(b.data, ret) : -EINVAL;
		if (r == -EINVAL)
			mfs_fail(ret_reason, r, "%s: holds no line ACCESS_KEY:SECRET_KEY", path);
	}
	buf_wipe(&b);
	return r;
}

static int from_environment(struct s3_credentials *ret, char **ret_reason)
{
	const char *access_key = getenv("AWS_ACCESS_KEY_ID"), *secret_key = getenv("AWS_SECRET_ACCESS_KEY");
	const char *token = getenv("AWS_SESSION_TOKEN");
	int r;

	if (!access_key || !secret_key)
		return -ENOENT;
	r = take(access_key, secret_key, token && *token ? token : NULL, ret);
	return r == -EINVAL ? mfs_fail(ret_reason, r, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: not usable") : r;
}

int s3_credentials_of_profile(char *text, const char *profile, struct s3_credentials *ret)
{
	const char *access_key = NULL, *secret_key = NULL, *token = NULL;
	bool here = false;
	char *line, *save = NULL;

	for (; (line = strtok_r(text, "\n", &save)); text = NULL) {
		char *value;

		line = trim(line);
		if (*line == '[') {
			size_t len = strlen(line);

			here = len > 2 && line[len - 1] == ']' && len - 2 == strlen(profile) &&
			       !memcmp(line + 1, profile, len - 2);
			continue;
		}
		value = here && *line != '#' && *line != ';' ? strchr(line, '=') : NULL;
		if (!value)
			continue;
		*value = '\0';
		line = trim(line);
		value = trim(value + 1);
		if (!strcmp(line, "aws_access_key_id"))
			access_key = value;
		else if (!strcmp(line, "aws_secret_access_key"))
			secret_key = value;
		else if (!strcmp(line, "aws_session_token") && *value)
			token = value;
	}
	return access_key && secret_key ? take(access_key, secret_key, token, ret) : -ENOENT;
}

static int from_profile(const char *profile, struct s3_credentials *ret, char **ret_reason)
{
	const char *shared = getenv("AWS_SHARED_CREDENTIALS_FILE"), *home = getenv("HOME");
	MFS_AUTOFREE char *path = shared ? strdup(shared) : mfs_str_printf("%s/.aws/credentials", home ? home : "/root");
	const char *name = profile ? profile : getenv("AWS_PROFILE");
	struct mfs_buf b = MFS_BUF_INIT(FILE_MAX);
	int r;

	if (!path)
		return -ENOMEM;
	name = name ? name : "default";
	if (access(path, F_OK) < 0)
		return -ENOENT;
	r = read_private(path, &b, ret_reason);
	if (r == 0)
		r = b.data ? s3_credentials_of_profile(b.data, name, ret) : -ENOENT;
	buf_wipe(&b);
	if (r == -EINVAL)
		mfs_fail(ret_reason, r, "%s: the keys of [%s] are not usable", path, name);
	if (r == -ENOENT && profile)
		return mfs_fail(ret_reason, r, "%s: has no profile [%s] with both keys", path, name);
	return r;
}

int s3_credentials_load(const struct s3_credentials_from *from, struct s3_credentials *ret, char **ret_reason)
{
	int r = -ENOENT;

	if (from->access_key && from->secret_key) {
		r = take(from->access_key, from->secret_key, from->token, ret);
		return r == -EINVAL ? mfs_fail(ret_reason, r, "access_key, secret_key: not usable") : r;
	}
	if (from->passwd_file)
		return from_passwd(from->passwd_file, ret, ret_reason);
	if (!from->profile)
		r = from_environment(ret, ret_reason);
	if (r == -ENOENT)
		r = from_profile(from->profile, ret, ret_reason);
	if (r == -ENOENT && !(ret_reason && *ret_reason))
		mfs_fail(ret_reason, r,
			 "no credentials: give passwd_file= (ACCESS_KEY:SECRET_KEY, mode 600), AWS_ACCESS_KEY_ID and "
			 "AWS_SECRET_ACCESS_KEY in the environment, or a profile in ~/.aws/credentials");
	return r;
}
