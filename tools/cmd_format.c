/*
 * massfs format SOURCE [--force] [--if-needed] [-o OPTIONS]: make a volume.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "common/conf.h"
#include "fs/volume.h"
#include "tools/tool.h"

struct format_args {
	bool force, if_needed, help;
	const char *source;
	struct mfs_buf options;
};

static void print_usage(FILE *out)
{
	fputs("usage: massfs format SOURCE [--force] [--if-needed] [-o OPTIONS]\n"
	      "  SOURCE        an empty or absent folder, or a volume's .conf or NAME\n"
	      "  --force       the folder may hold other files; an existing volume is never overwritten\n"
	      "  --if-needed   success if it is a volume already\n",
	      out);
}

static int parse(int argc, char **argv, struct format_args *ret)
{
	static const struct option longs[] = {
		{ "force", no_argument, NULL, 'f' },
		{ "if-needed", no_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "fio:h", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			ret->force = true;
			break;
		case 'i':
			ret->if_needed = true;
			break;
		case 'o':
			mfs_buf_printf(&ret->options, "%s%s", ret->options.len ? "," : "", optarg);
			break;
		case 'h':
			ret->help = true;
			return 0;
		default:
			return -EINVAL;
		}
	}
	if (optind + 1 != argc)
		return -EINVAL;
	ret->source = argv[optind];
	return ret->options.err;
}

static int format(const struct format_args *args)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	MFS_AUTOFREE char *reason = NULL;
	int r;

	mfs_config_init(&cfg);
	r = mfs_config_load(&cfg, args->source, mfs_buf_str(&args->options), false, NULL, &reason);
	if (!r)
		r = volume_format(&cfg, args->force, &reason);
	if (r == -EEXIST && args->if_needed) {
		printf("%s is a massfs volume already; left as it is\n", mfs_config_label(&cfg));
		return VERB_OK;
	}
	if (r < 0) {
		tool_error("massfs format", "%s", reason ? reason : strerror(-r));
		return VERB_FAILED;
	}
	printf("%s is a massfs volume now; mount it: massfs mount %s DIR\n", mfs_config_label(&cfg), args->source);
	return VERB_OK;
}

int cmd_format(int argc, char **argv)
{
	struct format_args args = { .options = MFS_BUF_INIT(64 * 1024) };
	int status;

	if (parse(argc, argv, &args) < 0) {
		print_usage(stderr);
		status = VERB_USAGE;
	} else if (args.help) {
		print_usage(stdout);
		status = VERB_OK;
	} else {
		status = format(&args);
	}
	mfs_buf_release(&args.options);
	return status;
}
