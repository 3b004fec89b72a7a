/*
 * massfs dump [--level N] [--json] SOURCE|MOUNTPOINT [FILE|-]: the index as a text.
 *
 * Of a mounted volume the daemon writes the text, from a snapshot, and this process compresses it; so the daemon has no
 * more to do than to read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/op_ctx.h"
#include "fs/control.h"
#include "fs/dump.h"
#include "fs/volume.h"
#include "tools/options.h"
#include "tools/place.h"
#include "tools/stream.h"
#include "tools/tool.h"

struct dump_args {
	uint64_t level;
	bool json;
	const char *source, *file;
};

static const char usage[] =
	"usage: massfs dump [--level N] [--json] SOURCE|MOUNTPOINT [FILE|-]\n"
	"  Write the whole index as text, one JSON object a line, compressed by zstd; to standard output without FILE.\n"
	"  --level N     of compression, 1 to 19 (default 3); 0: none\n"
	"  --json        the summary as JSON\n";

/* What passes by: lines, and whether the last one was the end. */
struct counted {
	struct dump_file *file;
	uint64_t bytes, lines;
};

static int count_and_write(void *arg, const void *buf, size_t len)
{
	struct counted *c = arg;
	const char *p = buf, *end = p + len;

	c->bytes += len;
	for (const char *nl = p; (nl = memchr(nl, '\n', (size_t)(end - nl))); nl++)
		c->lines++;
	return dump_file_write(c->file, buf, len);
}

static ssize_t write_cookie(void *arg, const char *buf, size_t len)
{
	int r = count_and_write(arg, buf, len);

	if (r == 0)
		return (ssize_t)len;
	errno = -r;
	return 0;
}

static int dump_by_daemon(const struct dump_args *args, const struct place *place, struct counted *c)
{
	char verb[] = "dump";
	char *argv[] = { verb, NULL };
	FILE *out = fopencookie(c, "w", (cookie_io_functions_t){ .write = write_cookie });
	int status;

	if (!out)
		return -errno;
	setvbuf(out, NULL, _IOFBF, 64 * 1024);
	status = control_call(place->dev, 1, argv, isatty(STDERR_FILENO), out, stderr, NULL);
	if (fclose(out) == EOF || status < 0) {
		int r = status < 0 ? status : -errno;

		tool_error("massfs dump", "%s: %s", args->source, strerror(-r));
		return r;
	}
	return status == 0 ? 0 : -EIO; /* said by the daemon */
}

static int dump_offline(const struct dump_args *args, struct volume *vol, struct counted *c)
{
	struct op_ctx op = { 0 };
	struct record_counts counts;
	struct tool_progress p;
	int r;

	tool_progress_init(&p, "massfs dump");
	r = dump_index(vol->engine, &op, count_and_write, c, tool_progress_show, &p, &counts);
	tool_progress_end(&p);
	if (r < 0)
		tool_error("massfs dump", "%s: %s", args->source, strerror(-r));
	return r;
}

static int dump_volume(const struct dump_args *args, const struct place *place, struct counted *c)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	MFS_CLEANUP(place_release) struct place mounted = PLACE_INIT;
	MFS_AUTOFREE char *reason = NULL;
	struct volume *vol = NULL;
	long pid;
	int r;

	mfs_config_init(&cfg);
	r = mfs_config_load(&cfg, place->volume, NULL, false, NULL, &reason);
	if (!r)
		r = volume_open(&cfg, VOLUME_READONLY, NULL, &vol, &reason);
	if (r == -EBUSY) {
		pid = volume_holder(&cfg);
		if (pid > 0 && place_find_daemon((pid_t)pid, &mounted) == 0)
			return dump_by_daemon(args, &mounted, c);
	}
	if (r < 0) {
		tool_error("massfs dump", "%s", reason ? reason : strerror(-r));
		return r;
	}
	r = dump_offline(args, vol, c);
	volume_close(vol);
	return r;
}

static void print_summary(const struct dump_args *args, const struct counted *c)
{
	FILE *out = strcmp(args->file, "-") == 0 ? stderr : stdout;
	uint64_t records = c->lines > 2 ? c->lines - 2 : 0;

	if (args->json)
		fprintf(out,
			"{\"records\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"compressed\": %" PRIu64 "}\n",
			records, c->bytes, c->file->bytes);
	else if (out == stdout)
		fprintf(out, "%" PRIu64 " records, %" PRIu64 " bytes of text, %" PRIu64 " bytes in %s\n",
			records, c->bytes, c->file->bytes, args->file);
}

static int dump(const struct dump_args *args)
{
	MFS_CLEANUP(place_release) struct place place = PLACE_INIT;
	MFS_AUTOFREE char *reason = NULL;
	struct dump_file file;
	struct counted c = { .file = &file };
	int r = place_find(args->source, &place, &reason);

	if (r < 0) {
		tool_error("massfs dump", "%s", reason ? reason : strerror(-r));
		return VERB_FAILED;
	}
	if (strcmp(args->file, "-") == 0 && args->level && isatty(STDOUT_FILENO)) {
		tool_error("massfs dump",
			   "standard output is a terminal: give a FILE, or --level 0 to see the text");
		return VERB_USAGE;
	}
	r = dump_file_open(&file, args->file, (int)args->level);
	if (r < 0) {
		tool_error("massfs dump", "%s: %s", args->file, strerror(-r));
		return VERB_FAILED;
	}
	r = place.is_mounted ? dump_by_daemon(args, &place, &c) : dump_volume(args, &place, &c);
	if (r == 0) {
		r = dump_file_commit(&file);
		if (r < 0)
			tool_error("massfs dump", "%s: %s", args->file, strerror(-r));
	}
	if (r == 0)
		print_summary(args, &c);
	dump_file_release(&file);
	return r < 0 ? VERB_FAILED : VERB_OK;
}

int cmd_dump(int argc, char **argv)
{
	struct dump_args args = { .level = MFS_ZSTREAM_LEVEL };
	const struct tool_option options[] = {
		{ .name = "level", .number = &args.level, .max = MFS_ZSTREAM_LEVEL_MAX },
		{ .name = "json", .flag = &args.json },
	};
	int first, status;

	if (!tool_options(argc, argv, options, MFS_ARRAY_LEN(options), usage, 1, 2, &first, &status))
		return status;
	args.source = argv[first];
	args.file = first + 1 < argc ? argv[first + 1] : "-";
	return dump(&args);
}
