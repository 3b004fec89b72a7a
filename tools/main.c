/*
 * The one executable. Its name decides: mount.massfs and mount.fuse.massfs mount, umount.fuse.massfs unmounts, and
 * massfs does what its first argument says.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/verbs.h"
#include "tools/tool.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
};

static const struct command by_name[] = {
	{ "mount.massfs", cmd_mount },
	{ "mount.fuse.massfs", cmd_mount },
	{ "umount.massfs", cmd_umount },
	{ "umount.fuse.massfs", cmd_umount },
};
static const struct command by_verb[] = {
	{ "mount", cmd_mount },
	{ "umount", cmd_umount },
	{ "unmount", cmd_umount },
	{ "format", cmd_format },
	{ "dump", cmd_dump },
	{ "load", cmd_load },
	{ "rebuild", cmd_rebuild },
	{ "upgrade", cmd_upgrade },
	{ "find", cmd_find },
	{ "tag", cmd_tag },
	{ "schema", cmd_schema },
	{ "failures", cmd_failures },
};

static int (*find(const struct command *commands, size_t n, const char *name))(int, char **)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(commands[i].name, name))
			return commands[i].run;
	return NULL;
}

static void print_help(FILE *out)
{
	fputs("usage: massfs VERB [ARGUMENTS]\n"
	      "\n"
	      "  massfs format [--force] [--if-needed] SOURCE\n"
	      "      make a volume in an empty or absent folder\n"
	      "  massfs upgrade SOURCE\n"
	      "      make an unmounted volume of an older massfs one of this version\n"
	      "  massfs mount SOURCE DIR [-sfnv] [-o OPTIONS]\n"
	      "      mount it, as mount -t massfs does\n"
	      "  massfs umount [-flrv] DIR\n"
	      "      write out what is left, unmount, wait for the daemon's end\n",
	      out);
	verb_print_help(out);
	fputs("  massfs dump [--level N] [--json] SOURCE|MOUNT [FILE|-]\n"
	      "      the whole index as text (zstd), also while it is mounted\n"
	      "  massfs load [--replace] [--json] SOURCE FILE|-\n"
	      "      a volume's index from such a text\n"
	      "  massfs rebuild [--force] [--verbose] [--json] SOURCE\n"
	      "      a lost index, from the objects and the index log among them\n",
	      out);
	fputs("  massfs find [OPTIONS] [DIR] EXPRESSION...\n"
	      "      files by tags and fields; massfs-find(1) has the language\n"
	      "  massfs tag add|rm [-r] [--files-from=FILE|-] [-t TAG[=VALUE]]... [TAG[=VALUE]] FILE...\n"
	      "  massfs tag ls [-r] [--files-from=FILE|-] [--json] FILE...\n"
	      "      tags on files and directories\n"
	      "  massfs schema set [--name=PATTERN]... [--tag=TAG[=VALUE]]... [--max-size=SIZE] DIR\n"
	      "  massfs schema unset|show|check DIR\n"
	      "      storage rules of a directory and what is below it\n",
	      out);
	fputs("\n"
	      "Verbs with FILE or PATH work on a file in a mount, below a volume's objects/, or SOURCE:/path.\n"
	      "SOURCE is the folder of an embedded volume, NAME (for /etc/massfs/NAME.conf), or a path to such a\n"
	      ".conf; SOURCE:/subdir mounts a folder of it. massfs --version; manual: massfs(1), mount.massfs(8), massfs.conf(5).\n",
	      out);
}

/* A closed stdin, stdout or stderr would be given to the first file that is opened. */
static void keep_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static int run_verb(int argc, char **argv)
{
	int (*run)(int, char **);

	if (argc < 2) {
		print_help(stderr);
		return VERB_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V") || !strcmp(argv[1], "version")) {
		printf("massfs %s\n", MASSFS_VERSION);
		return VERB_OK;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help(stdout);
		return VERB_OK;
	}
	run = find(by_verb, MFS_ARRAY_LEN(by_verb), argv[1]);
	if (run)
		return run(argc - 1, argv + 1);
	if (verb_exists(argv[1]))
		return cmd_verb(argc - 1, argv + 1);
	tool_error("massfs", "unknown verb '%s'; massfs --help lists them", argv[1]);
	return VERB_USAGE;
}

int main(int argc, char **argv)
{
	int (*run)(int, char **);
	int status;

	keep_standard_streams();
	run = argc > 0 ? find(by_name, MFS_ARRAY_LEN(by_name), tool_base_name(argv[0])) : NULL;
	status = run ? run(argc, argv) : run_verb(argc, argv);
	if (fflush(stdout) == EOF && !status) {
		tool_error("massfs", "cannot write the output: %m");
		return VERB_FAILED;
	}
	return status;
}
