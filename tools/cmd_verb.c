/*
 * The verbs of fs/verbs.h: finds the mount or volume that an operand names, and has the daemon run the verb, or runs
 * it here on a volume that is not mounted.
 *
 * Operands and options are passed on as they are, but for the first operand: of a verb that takes a path it becomes
 * the path below the root; of the others it names the volume and is taken out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/op_ctx.h"
#include "fs/control.h"
#include "fs/verbs.h"
#include "tools/place.h"
#include "tools/tool.h"

#define MAX_ARGS 64

struct call {
	const char *verb;
	bool takes_path;
	int argc;
	char *argv[MAX_ARGS + 1]; /* borrowed; the operand's place is set when it is known */
	int operand; /* index in argv; 0: none */
	bool has_dashes; /* "--" is among the arguments */
	const char *volume; /* of --volume */
};

/* argv without --volume, and where the operand is. */
static int collect(int argc, char **argv, struct call *ret)
{
	bool only_operands = false;

	for (int i = 0; i < argc; i++) {
		if (i && !only_operands && !strncmp(argv[i], "--volume=", 9)) {
			ret->volume = argv[i] + 9;
			continue;
		}
		if (i && !only_operands && !strcmp(argv[i], "--volume") && i + 1 < argc) {
			ret->volume = argv[++i];
			continue;
		}
		if (ret->argc == MAX_ARGS - 1)
			return -E2BIG; /* one is kept for "--" */
		if (i && !ret->operand && (only_operands || argv[i][0] != '-'))
			ret->operand = ret->argc;
		only_operands |= !strcmp(argv[i], "--");
		ret->has_dashes = only_operands;
		ret->argv[ret->argc++] = argv[i];
	}
	return 0;
}

static void remove_operand(struct call *call)
{
	for (int i = call->operand; i < call->argc; i++)
		call->argv[i] = call->argv[i + 1];
	call->argc--;
	call->operand = 0;
}

/* Below the root a path may begin with a dash: it goes behind "--". */
static void set_path(struct call *call, char *path)
{
	static char dashes[] = "--";

	if (call->has_dashes) {
		call->argv[call->operand] = path;
		return;
	}
	remove_operand(call);
	call->argv[call->argc++] = dashes;
	call->argv[call->argc++] = path;
	call->argv[call->argc] = NULL;
}

/* With --volume the operand is a path in it, as the mount would show it. */
static int find_in_volume(const struct call *call, struct place *ret, char **ret_reason)
{
	const char *path = call->operand && call->takes_path ? call->argv[call->operand] : "";

	return place_find_in(call->volume, path, ret, ret_reason);
}

static int find_place(const struct call *call, struct place *ret, char **ret_reason)
{
	if (call->volume)
		return find_in_volume(call, ret, ret_reason);
	if (call->operand)
		return place_find(call->argv[call->operand], ret, ret_reason);
	return place_find_default(ret, ret_reason);
}

static int run_in_daemon(const struct call *call, const struct place *place)
{
	int r;

	r = control_call(place->dev, call->argc, call->argv, isatty(STDERR_FILENO), stdout, stderr, NULL);
	if (r == -ENOENT || r == -ECONNREFUSED)
		tool_error("massfs", "%s: no massfs daemon answers for this mount", place->mountpoint);
	else if (r == -EACCES || r == -EPERM)
		tool_error("massfs", "%s: its daemon belongs to another user", place->mountpoint);
	else if (r < 0)
		tool_error("massfs", "%s: the daemon does not answer: %s", place->mountpoint, strerror(-r));
	return r < 0 ? VERB_FAILED : r;
}

static int run_offline(struct call *call, struct volume *vol)
{
	gid_t groups[1024];
	int n = getgroups((int)MFS_ARRAY_LEN(groups), groups);
	struct op_ctx op = { .uid = geteuid(), .gid = getegid(), .pid = getpid() };
	struct verb_call vc = {
		.vol = vol,
		.cred = { .uid = geteuid(),
			  .gid = getegid(),
			  .groups = groups,
			  .n_groups = n > 0 ? (size_t)n : 0 },
		.op = &op,
		.argc = call->argc,
		.argv = call->argv,
		.mountpoint = "",
		.out = stdout,
		.err = stderr,
		.progress = isatty(STDERR_FILENO),
	};

	return verb_run(&vc);
}

/* The volume turned out to be mounted: ask its daemon, when we can see the mount. */
static int run_in_holder(const struct call *call, const struct mfs_config *cfg, const char *reason)
{
	MFS_CLEANUP(place_release) struct place place = PLACE_INIT;
	long pid = volume_holder(cfg);

	if (pid > 0 && place_find_daemon((pid_t)pid, &place) == 0)
		return run_in_daemon(call, &place);
	tool_error("massfs", "%s", reason ? reason : "the volume is in use");
	return VERB_FAILED;
}

static int run_on_volume(struct call *call, const struct place *place)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	MFS_AUTOFREE char *reason = NULL;
	struct volume *vol = NULL;
	int status, r;

	mfs_config_init(&cfg);
	r = mfs_config_load(&cfg, place->volume, NULL, false, NULL, &reason);
	if (!r)
		r = volume_open(&cfg, VOLUME_TOOL, NULL, &vol, &reason);
	if (r == -EBUSY)
		return run_in_holder(call, &cfg, reason);
	if (r < 0) {
		tool_error("massfs", "%s", reason ? reason : strerror(-r));
		return VERB_FAILED;
	}
	status = run_offline(call, vol);
	volume_close(vol);
	return status;
}

int tool_verb_at(const struct place *place, int argc, char **argv)
{
	struct call call = { .verb = argv[0], .argc = argc };

	if (argc > MAX_ARGS) {
		tool_error("massfs", "more than %d arguments", MAX_ARGS);
		return VERB_USAGE;
	}
	memcpy(call.argv, argv, (size_t)argc * sizeof(*argv));
	return place->is_mounted ? run_in_daemon(&call, place) : run_on_volume(&call, place);
}

static bool wants_help(const struct call *call)
{
	for (int i = 1; i < call->argc && strcmp(call->argv[i], "--"); i++)
		if (!strcmp(call->argv[i], "--help") || !strcmp(call->argv[i], "-h"))
			return true;
	return false;
}

static int run_one(int argc, char **argv)
{
	MFS_CLEANUP(place_release) struct place place = PLACE_INIT;
	struct call call = { .verb = argv[0], .takes_path = verb_takes_path(argv[0]) };
	MFS_AUTOFREE char *reason = NULL;
	int r;

	r = collect(argc, argv, &call);
	if (r < 0) {
		tool_error("massfs", "more than %d arguments", MAX_ARGS);
		return VERB_USAGE;
	}
	if (wants_help(&call)) {
		verb_print_help(stdout);
		return VERB_OK;
	}
	r = find_place(&call, &place, &reason);
	if (r < 0) {
		fflush(stdout);
		fprintf(stderr, "massfs %s: %s\n", call.verb, reason ? reason : strerror(-r));
		return r == -EINVAL ? VERB_USAGE : VERB_FAILED;
	}
	if (call.operand && call.takes_path)
		set_path(&call, place.path);
	else if (call.operand && !call.volume)
		remove_operand(&call);
	return place.is_mounted ? run_in_daemon(&call, &place) : run_on_volume(&call, &place);
}

static bool takes_value(const char *option)
{
	return !strcmp(option, "--volume");
}

/* Each operand with all the options, in a call of its own. */
int cmd_verb(int argc, char **argv)
{
	static char dashes[] = "--";
	MFS_AUTOFREE char **options = calloc((size_t)argc + 3, sizeof(*options));
	MFS_AUTOFREE char **operands = calloc((size_t)argc + 1, sizeof(*operands));
	int n_options = 0, n = 0, status = VERB_OK;

	if (!options || !operands || !verb_takes_paths(argv[0]))
		return run_one(argc, argv);
	for (int i = 0; i < argc; i++) {
		bool only_operands = i && !strcmp(argv[i], "--");

		while (only_operands && ++i < argc)
			operands[n++] = argv[i];
		if (i == argc)
			break;
		if (i && (argv[i][0] != '-' || !argv[i][1])) {
			operands[n++] = argv[i];
			continue;
		}
		options[n_options++] = argv[i];
		if (takes_value(argv[i]) && i + 1 < argc)
			options[n_options++] = argv[++i];
	}
	if (n < 2)
		return run_one(argc, argv);
	for (int i = 0; i < n; i++) {
		options[n_options] = dashes;
		options[n_options + 1] = operands[i];
		status = MFS_MAX(status, run_one(n_options + 2, options));
	}
	return status;
}
