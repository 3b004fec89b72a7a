/*
 * Options and operands of a command that has few of them.
 */
#ifndef MASSFS_TOOLS_OPTIONS_H
#define MASSFS_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct tool_option {
	const char *name; /* --name */
	char letter; /* -l too; 0: none */
	bool *flag; /* set; or */
	uint64_t *number; /* its argument, up to max */
	uint64_t max;
};

#define TOOL_OPTIONS_MAX 16
/*
 * Give what argv says to where the options point. --help and -h print the usage. 1: the operands begin at argv[*ret_first], and
 * are no fewer than min and no more than max; else *ret_status is what the command ends with.
 */
int tool_options(int argc, char **argv, const struct tool_option *o, unsigned int n, const char *usage, int min, int max,
		 int *ret_first, int *ret_status);

#endif
