/*
 * Running tests/servers, and reading what it prints.
 */
#include "tests/lib/s3_server.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/str.h"
#include "tests/lib/server_run.h"
#include "tests/lib/store_suite.h"

static void take_line(struct s3_server *s, char *line)
{
	char *value = strchr(line, '='), *name, *word, *save = NULL;

	line[strcspn(line, "\n")] = '\0';
	if (!value)
		return;
	*value++ = '\0';
	name = strchr(line, '_');
	if (!name)
		return;
	if (!strcmp(name, "_endpoints"))
		s->endpoints = strdup(value);
	else if (!strcmp(name, "_credentials"))
		s->credentials = strdup(value);
	else if (!strcmp(name, "_pids"))
		for (; s->n_pids < 8 && (word = strtok_r(value, ",", &save)); value = NULL)
			s->pids[s->n_pids++] = strtol(word, NULL, 10);
}

void s3_server_start(const char *service, struct s3_server *ret)
{
	char line[1024];
	FILE *f;

	*ret = (struct s3_server){ .dir = store_test_dir() };
	f = test_servers("start", service, ret->dir);
	while (fgets(line, sizeof(line), f))
		take_line(ret, line);
	if (pclose(f) != 0 || !ret->endpoints || !ret->credentials || !ret->n_pids) {
		fprintf(stderr, "tests/servers start %s: failed\n", service);
		exit(1);
	}
}

void s3_server_stop(struct s3_server *s)
{
	pclose(test_servers("stop", "", s->dir));
	free(s->endpoints);
	free(s->credentials);
	store_test_remove(s->dir);
}

void s3_server_bucket(const char *dir, char ret[static 64])
{
	const char *base = strrchr(dir, '/');
	struct stat st;
	size_t n;

	/* Letters lose their case, so the folder's number tells apart what is the same otherwise. */
	n = (size_t)snprintf(ret, 64, "%.40s-%ju", base ? base + 1 : dir, stat(dir, &st) == 0 ? (uintmax_t)st.st_ino : 0);
	for (size_t i = 0; i < n && i < 63; i++)
		ret[i] = (char)tolower((unsigned char)ret[i]);
}
