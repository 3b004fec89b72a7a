/*
 * The mount helper: mount.massfs SOURCE DIR [-sfnv] [-o OPTIONS], as mount(8) calls it, and massfs mount.
 *
 * Checks everything a person can get wrong, then forks. The child mounts and serves (fs/mount.h) and stays as the
 * daemon; the parent waits at a pipe for "it answers" or the reason why not, and exits with mount(8)'s code.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/log.h"
#include "fs/mount.h"
#include "fs/volume.h"
#include "tools/daemon.h"
#include "tools/tool.h"
#include "tools/utab.h"

#define MAX_DEAD_MOUNTS 16 /* one over another */

struct mount_args {
	const char *program; /* in messages */
	const char *source, *dir;
	bool sloppy, fake, verbose, help, version;
	struct mfs_buf options;
};

static void print_usage(FILE *out, const char *program)
{
	fprintf(out,
		"usage: %s SOURCE DIR [-sfnv] [-o OPTIONS]\n"
		"  SOURCE  folder of an embedded volume, NAME (/etc/massfs/NAME.conf) or a .conf; SOURCE:/subdir\n"
		"  -f      check all but mount nothing        -s  ignore unknown options\n"
		"  -n      accepted, means nothing            -v  say what is done\n"
		"  -o      see mount.massfs(8); -o foreground serves without going to the background\n",
		program);
}

static int parse(int argc, char **argv, struct mount_args *ret)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },	     { "version", no_argument, NULL, 'V' },
		{ "verbose", no_argument, NULL, 'v' },	     { "fake", no_argument, NULL, 'f' },
		{ "options", required_argument, NULL, 'o' }, { 0 },
	};
	int c;

	/* getopt permutes: options may stand before, between and after the two operands. */
	while ((c = getopt_long(argc, argv, "sfnvo:t:N:hV", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			ret->sloppy = true;
			break;
		case 'f':
			ret->fake = true;
			break;
		case 'v':
			ret->verbose = true;
			break;
		case 'o':
			mfs_buf_printf(&ret->options, "%s%s", ret->options.len ? "," : "", optarg);
			break;
		case 'h':
			ret->help = true;
			return 0;
		case 'V':
			ret->version = true;
			return 0;
		case 'n':
		case 't':
		case 'N': /* mount(8) has entered the namespace already */
			break;
		default:
			return -EINVAL;
		}
	}
	if (argc - optind != 2)
		return -EINVAL;
	ret->source = argv[optind];
	ret->dir = argv[optind + 1];
	return ret->options.err;
}

static int load_config(const struct mount_args *args, struct mfs_config *cfg)
{
	MFS_AUTOBUF struct mfs_buf warnings = MFS_BUF_INIT(MFS_MIB);
	MFS_AUTOFREE char *reason = NULL;
	int r;

	r = mfs_config_load(cfg, args->source, mfs_buf_str(&args->options), args->sloppy, &warnings, &reason);
	if (warnings.len)
		fprintf(stderr, "%s: %s", args->program, mfs_buf_str(&warnings));
	if (!r && cfg->debug)
		r = mfs_log_set_debug(cfg->debug);
	if (!r)
		return MOUNT_OK;
	tool_error(args->program, "%s", reason ? reason : strerror(-r));
	return r == -EINVAL || r == -EACCES ? MOUNT_USAGE : MOUNT_FAILED;
}

/*
 * Is the FUSE mount right there one whose daemon is gone? By statfs: for stat the kernel may still have attributes.
 * -errno: it cannot be told. Nothing but a FUSE mount is asked, so that an automount is not set off.
 */
static int is_dead_mount(const struct mount_args *args, const char *dir)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	const struct mountinfo_entry *top;
	struct statfs fs;
	int r = mountinfo_read(NULL, &mounts);

	if (r < 0)
		return r;
	top = mountinfo_top(&mounts, dir);
	if (!top || !mountinfo_is_fuse(top) || statfs(dir, &fs) == 0 || errno != ENOTCONN)
		return 0;
	if (args->verbose)
		tool_error(args->program, "%s: unmounting what a dead daemon left (%s, %s)", dir, top->source, top->fstype);
	return 1;
}

/* What a killed daemon leaves: every request gives ENOTCONN. Takes it away. */
static int clean_dead_mount(const struct mount_args *args, const char *dir)
{
	int r = 0;

	for (int i = 0; i < MAX_DEAD_MOUNTS; i++) {
		r = is_dead_mount(args, dir);
		if (r <= 0)
			return r;
		r = umount2(dir, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
		if (r == -EPERM)
			r = tool_fusermount(dir, true);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_fuse_mounted(const char *dir)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	const struct mountinfo_entry *top;

	if (mountinfo_read(NULL, &mounts) < 0)
		return false;
	top = mountinfo_top(&mounts, dir);
	return top && mountinfo_is_fuse(top);
}

/* The same source, alive, right there: what mount(8) calls already mounted. */
static bool is_already_mounted(const struct mfs_config *cfg)
{
	MFS_AUTOMOUNTINFO struct mountinfo mounts = { 0 };
	const struct mountinfo_entry *top;

	if (mountinfo_read(NULL, &mounts) < 0)
		return false;
	top = mountinfo_top(&mounts, cfg->mountpoint);
	return top && mountinfo_is_fuse(top) && !strcmp(top->source, cfg->fsname);
}

static int check_mountpoint(const struct mount_args *args, struct mfs_config *cfg)
{
	struct stat st;
	int r;

	cfg->mountpoint = tool_real_path(args->dir, true);
	if (!cfg->mountpoint) {
		tool_error(args->program, "mount point %s: %m", args->dir);
		return MOUNT_FAILED;
	}
	r = clean_dead_mount(args, cfg->mountpoint);
	if (r < 0) {
		tool_error(args->program,
			   "mount point %s: a dead mount is there and cannot be taken away: %s",
			   cfg->mountpoint, strerror(-r));
		return MOUNT_FAILED;
	}
	if (stat(cfg->mountpoint, &st) < 0) {
		tool_error(args->program, "mount point %s: %m", cfg->mountpoint);
		return MOUNT_FAILED;
	}
	if (!S_ISDIR(st.st_mode)) {
		tool_error(args->program, "mount point %s is not a directory", cfg->mountpoint);
		return MOUNT_FAILED;
	}
	return MOUNT_OK;
}

static int remount(const struct mount_args *args, const struct mfs_config *cfg)
{
	static const unsigned long atime_flags[] = {
		[MFS_RELATIME] = MS_RELATIME, [MFS_NOATIME] = MS_NOATIME, [MFS_STRICTATIME] = MS_STRICTATIME
	};
	unsigned long flags = MS_REMOUNT | atime_flags[cfg->atime];

	flags |= (cfg->ro ? MS_RDONLY : 0) | (cfg->nosuid ? MS_NOSUID : 0) | (cfg->nodev ? MS_NODEV : 0) |
		 (cfg->noexec ? MS_NOEXEC : 0) | (cfg->sync ? MS_SYNCHRONOUS : 0) |
		 (cfg->dirsync ? MS_DIRSYNC : 0);
	if (!is_already_mounted(cfg)) {
		tool_error(args->program, "%s: %s is not mounted there", cfg->mountpoint, cfg->fsname);
		return MOUNT_FAILED;
	}
	if (!args->fake && mount(NULL, cfg->mountpoint, NULL, flags, NULL) < 0) {
		tool_error(args->program, "%s: remount: %m", cfg->mountpoint);
		return MOUNT_FAILED;
	}
	return MOUNT_OK;
}

/* -f: what can be told without mounting. */
static int check_volume(const struct mount_args *args, const struct mfs_config *cfg)
{
	long holder = volume_holder(cfg);

	if (mfs_config_is_cluster(cfg)) /* its servers are asked when it is mounted */
		return MOUNT_OK;
	if (!holder && !tool_is_volume(cfg->dir))
		holder = -ENOENT;
	if (holder == -ENOENT)
		tool_error(args->program, "%s is no massfs volume; make one: massfs format %s", cfg->dir,
			   args->source);
	else if (holder < 0)
		tool_error(args->program, "%s: %s", cfg->dir, strerror((int)-holder));
	else if (holder > 0)
		tool_error(args->program, "%s is in use by process %ld", cfg->dir, holder);
	return holder ? MOUNT_FAILED : MOUNT_OK;
}

/* From before the mount to after its end there is a line in utab, so that umount(8) calls our helper. */
static int serve(const struct mfs_config *cfg, int ready_fd)
{
	int status;

	utab_add(cfg->fsname, cfg->mountpoint);
	status = massfs_mount_run(cfg, ready_fd);
	/* Somebody may have mounted there again by now; the line is theirs then. */
	if (!is_fuse_mounted(cfg->mountpoint))
		utab_remove(cfg->mountpoint);
	return status;
}

static int mount_it(const struct mount_args *args, const struct mfs_config *cfg)
{
	int r;

	if (!cfg->foreground)
		return daemon_run(args->program, cfg, serve);
	if (cfg->logfile) {
		r = mfs_log_to_file(cfg->logfile);
		if (r < 0) {
			tool_error(args->program, "logfile=%s: %s", cfg->logfile, strerror(-r));
			return MOUNT_FAILED;
		}
	}
	return serve(cfg, -1);
}

static int do_mount(const struct mount_args *args)
{
	MFS_CLEANUP(mfs_config_release) struct mfs_config cfg;
	int status;

	mfs_config_init(&cfg);
	status = load_config(args, &cfg);
	if (status == MOUNT_OK)
		status = check_mountpoint(args, &cfg);
	if (status != MOUNT_OK)
		return status;
	if (cfg.remount)
		return remount(args, &cfg);
	if (is_already_mounted(&cfg)) {
		tool_error(args->program, "%s is already mounted on %s", cfg.fsname, cfg.mountpoint);
		return MOUNT_FAILED;
	}
	if (args->fake)
		return check_volume(args, &cfg);
	status = mount_it(args, &cfg);
	if (status == MOUNT_OK && args->verbose && !cfg.foreground)
		printf("%s: %s mounted on %s\n", args->program, cfg.fsname, cfg.mountpoint);
	return status;
}

int cmd_mount(int argc, char **argv)
{
	struct mount_args args = { .program = tool_base_name(argv[0]), .options = MFS_BUF_INIT(MFS_MIB) };
	int status;

	if (!strcmp(args.program, "mount"))
		args.program = "massfs mount";
	if (parse(argc, argv, &args) < 0) {
		print_usage(stderr, args.program);
		status = MOUNT_USAGE;
	} else if (args.help) {
		print_usage(stdout, args.program);
		status = MOUNT_OK;
	} else if (args.version) {
		printf("massfs %s\n", MASSFS_VERSION);
		status = MOUNT_OK;
	} else {
		status = do_mount(&args);
	}
	mfs_buf_release(&args.options);
	return status;
}
