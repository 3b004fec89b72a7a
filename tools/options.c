/*
 * See options.h.
 */
#include "tools/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/str.h"
#include "tools/tool.h"

#define FIRST 256 /* of the values that stand for options, above all letters */

static int take(const struct tool_option *o)
{
	if (o->flag)
		*o->flag = true;
	else if (mfs_str_uint(optarg, 10, 0, o->max, o->number) < 0)
		return -1;
	return 0;
}

static const struct tool_option *find_letter(const struct tool_option *o, unsigned int n, int c)
{
	for (unsigned int i = 0; i < n; i++)
		if (o[i].letter && o[i].letter == c)
			return &o[i];
	return NULL;
}

/* 1: all is taken; 0: help is wanted; -1 */
static int parse(int argc, char **argv, const struct tool_option *o, unsigned int n)
{
	struct option longs[TOOL_OPTIONS_MAX + 2] = { { "help", no_argument, NULL, 'h' } };
	char shorts[TOOL_OPTIONS_MAX * 2 + 2] = "h";
	int c;

	for (unsigned int i = 0; i < n; i++) {
		longs[i + 1] = (struct option){ o[i].name, o[i].flag ? no_argument : required_argument, NULL, FIRST + (int)i };
		if (o[i].letter)
			strcat(strncat(shorts, &o[i].letter, 1), o[i].flag ? "" : ":");
	}
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct tool_option *found = c >= FIRST ? &o[c - FIRST] : find_letter(o, n, c);

		if (c == 'h')
			return 0;
		if (!found || take(found) < 0)
			return -1;
	}
	return 1;
}

int tool_options(int argc, char **argv, const struct tool_option *o, unsigned int n, const char *usage, int min, int max,
		 int *ret_first, int *ret_status)
{
	int r = n > TOOL_OPTIONS_MAX ? -1 : parse(argc, argv, o, n);

	if (r == 1 && (argc - optind < min || argc - optind > max))
		r = -1;
	if (r <= 0)
		fputs(usage, r == 0 ? stdout : stderr);
	*ret_first = optind;
	*ret_status = r == 0 ? VERB_OK : VERB_USAGE;
	return r == 1;
}
