/*
 * The table of verbs, their arguments, and what they share.
 */
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/str.h"
#include "fs/verbs_internal.h"

enum operand {
	OPERAND_NONE,
	OPERAND_PATH,
	OPERAND_MAYBE_PATH,
	OPERAND_PATHS,
	OPERAND_OWN, /* the verb reads its arguments itself */
};

static const struct verb {
	const char *name;
	verb_fn *fn;
	enum operand operand;
	bool admin; /* root only */
	bool hidden;
	unsigned int flags; /* that it takes */
	const char *synopsis, *help;
} verbs[] = {
	{ "info", verb_info, OPERAND_PATH, false, false, FLAG_JSON, "info [--json] FILE",
	  "what massfs knows of a file: its object, key, state" },
	{ "status", verb_status, OPERAND_NONE, false, false, FLAG_JSON, "status [--json] [MOUNT]",
	  "the volume and its mount: size, backlog, memory" },
	{ "versions", verb_versions, OPERAND_PATH, false, false, FLAG_JSON, "versions [--json] FILE",
	  "what was at this path, newest first" },
	{ "restore", verb_restore, OPERAND_PATH, false, false, FLAG_STDOUT, "restore [--stdout] FILE@VERSION",
	  "bring a version back (or print it); what is there now becomes a version" },
	{ "undelete", verb_undelete, OPERAND_PATH, false, false, FLAG_LIST | FLAG_RECURSIVE | FLAG_JSON,
	  "undelete [--recursive | --list [--json]] PATH",
	  "bring back what was removed at this path (--list: only show it)" },
	{ "gc", verb_gc, OPERAND_NONE, true, false, FLAG_DELETE | FLAG_JSON | FLAG_VERBOSE,
	  "gc [--delete] [--verbose] [--json] [MOUNT]",
	  "find garbage among the objects (--delete: delete it)" },
	{ "fsck", verb_fsck, OPERAND_NONE, true, false, FLAG_REPAIR | FLAG_JSON,
	  "fsck [--repair] [--json] [VOLUME]", "check index, objects and what their keys show" },
	{ "scrub", verb_scrub, OPERAND_MAYBE_PATH, true, false, FLAG_JSON | FLAG_ALL | FLAG_QUARANTINE | FLAG_RATE,
	  "scrub [--rate=BYTES/s] [--quarantine] [--json] [--all | PATH]",
	  "read every object back and compare it with its checksum (--quarantine: nobody reads damaged ones any more)" },
	{ "settle", verb_settle, OPERAND_MAYBE_PATH, true, false, FLAG_WAIT, "settle [--wait] [PATH]",
	  "make the objects follow the index now" },
	{ "warmup", verb_warmup, OPERAND_PATHS, false, false, FLAG_WAIT | FLAG_JSON, "warmup [--wait] [--json] PATH...",
	  "bring files and trees into the cache, in the background (--wait: and wait for it)" },
	{ "evict", verb_evict, OPERAND_PATHS, false, false, FLAG_JSON, "evict [--json] PATH...",
	  "drop files and trees from the cache" },
	{ "import", verb_import, OPERAND_PATH, true, false, FLAG_DELETES, "import [--deletes] PATH",
	  "take over what other programs put among the objects at or below PATH (--deletes: and what they removed)" },
	{ "failures", verb_failures, OPERAND_OWN, true, false, 0,
	  "failures [--since=TIME] [--until=TIME] [--user=USER] [--path=PATH] [--kind=KIND] [--limit=N] [--after=ID] [--json] [MOUNT]\n"
	  "  massfs failures --restore=ID [--to=PATH] [MOUNT]",
	  "what storage rules refused: when, what, whose, on which host, and why; bring refused content back" },
	{ "schema", verb_schema, OPERAND_OWN, false, true, 0, "schema", "massfs schema asks for this (tools/cmd_schema.c)" },
	{ "find", verb_find, OPERAND_OWN, false, true, 0, "find", "massfs find asks for this (tools/cmd_find.c)" },
	{ "tag", verb_tag, OPERAND_OWN, false, true, 0, "tag", "massfs tag asks for this (tools/cmd_tag.c)" },
	{ "drain", verb_drain, OPERAND_NONE, true, true, 0, "drain", "commit everything (umount does this)" },
	{ "dump", verb_dump, OPERAND_NONE, true, true, 0, "dump", "the index as text (massfs dump asks for this)" },
	{ "pid", verb_pid, OPERAND_NONE, false, true, 0, "pid", "of the daemon" },
};

static const struct {
	const char *text;
	enum verb_flag flag;
} flags[] = {
	{ "--json", FLAG_JSON },	   { "--wait", FLAG_WAIT },
	{ "--delete", FLAG_DELETE },	   { "--repair", FLAG_REPAIR },
	{ "--list", FLAG_LIST },	   { "--stdout", FLAG_STDOUT },
	{ "--recursive", FLAG_RECURSIVE }, { "-r", FLAG_RECURSIVE },
	{ "--deletes", FLAG_DELETES },	   { "--verbose", FLAG_VERBOSE },	   { "-v", FLAG_VERBOSE },
	{ "--all", FLAG_ALL },		   { "--quarantine", FLAG_QUARANTINE },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; name && i < MFS_ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

bool verb_exists(const char *name)
{
	return find_verb(name);
}

bool verb_takes_path(const char *name)
{
	const struct verb *v = find_verb(name);

	return v && v->operand != OPERAND_NONE && v->operand != OPERAND_OWN;
}

bool verb_takes_paths(const char *name)
{
	const struct verb *v = find_verb(name);

	return v && v->operand == OPERAND_PATHS;
}

void verb_print_help(FILE *out)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(verbs); i++)
		if (!verbs[i].hidden)
			fprintf(out, "  massfs %s\n      %s\n", verbs[i].synopsis, verbs[i].help);
}

static unsigned int find_flag(const char *text)
{
	for (size_t i = 0; i < MFS_ARRAY_LEN(flags); i++)
		if (strcmp(flags[i].text, text) == 0)
			return flags[i].flag;
	return 0;
}

static int usage(struct verb_call *call, const struct verb *v)
{
	fprintf(call->err, "usage: massfs %s\n", v->synopsis);
	return VERB_USAGE;
}

/* --rate=10MiB, also with "/s" behind it. Is it one? */
static bool take_rate(const struct verb *v, const char *arg, struct verb_args *ret)
{
	char text[32];
	size_t len;

	if (!(v->flags & FLAG_RATE) || strncmp(arg, "--rate=", 7) != 0)
		return false;
	len = strlen(arg + 7);
	if (len >= sizeof(text))
		return false;
	memcpy(text, arg + 7, len + 1);
	if (len > 2 && strcmp(text + len - 2, "/s") == 0)
		text[len - 2] = '\0';
	return mfs_str_size(text, &ret->rate) == 0;
}

static int parse(struct verb_call *call, const struct verb *v, struct verb_args *ret)
{
	bool only_operands = false;

	for (int i = 1; i < call->argc; i++) {
		const char *arg = call->argv[i];
		unsigned int flag;

		if (!only_operands && strcmp(arg, "--") == 0) {
			only_operands = true;
		} else if (!only_operands && take_rate(v, arg, ret)) {
			continue;
		} else if (!only_operands && arg[0] == '-' && arg[1]) {
			flag = find_flag(arg) & v->flags;
			if (!flag) {
				fprintf(call->err, "massfs %s: unknown option %s\n", v->name, arg);
				return usage(call, v);
			}
			ret->flags |= flag;
		} else if (ret->operand || v->operand == OPERAND_NONE) {
			fprintf(call->err, "massfs %s: one operand too many: %s\n", v->name, arg);
			return usage(call, v);
		} else {
			ret->operand = arg;
		}
	}
	if ((v->operand == OPERAND_PATH || v->operand == OPERAND_PATHS) && !ret->operand)
		return usage(call, v);
	return VERB_OK;
}

int verb_run(struct verb_call *call)
{
	const struct verb *v = call->argc > 0 ? find_verb(call->argv[0]) : NULL;
	struct verb_args args = { 0 };
	int status;

	if (!v) {
		fprintf(call->err, "massfs: no such verb: %s\n", call->argc > 0 ? call->argv[0] : "");
		return VERB_USAGE;
	}
	status = v->operand == OPERAND_OWN ? VERB_OK : parse(call, v, &args);
	if (status != VERB_OK)
		return status;
	if (v->admin && !verb_is_admin(call))
		return verb_fail(call, "only root may do this");
	return v->fn(call, &args);
}

int verb_fail(struct verb_call *call, const char *fmt, ...)
{
	va_list ap;

	fprintf(call->err, "massfs %s: ", call->argv[0]);
	va_start(ap, fmt);
	vfprintf(call->err, fmt, ap);
	va_end(ap);
	fputc('\n', call->err);
	return VERB_FAILED;
}

const char *verb_strerror(int r)
{
	switch (r) {
	case -EUCLEAN:
		return "the index or an object is damaged (run massfs fsck)";
	case -ESTALE:
		return "it was removed meanwhile";
	case -EAGAIN:
		return "it is being changed all the time; try again";
	default:
		return strerror(-r);
	}
}

int verb_path(struct verb_call *call, const char *operand, struct mfs_buf *ret)
{
	MFS_AUTOFREE char *path = strdup(operand);
	int r;

	if (!path)
		return -ENOMEM;
	r = mfs_path_normalize(path);
	if (r < 0)
		return r;
	r = namespace_path(call->vol->ns, call->op, call->vol->root, ret);
	if (r == 0 && ret->len && path[0])
		r = mfs_buf_putc(ret, '/');
	return r < 0 ? r : mfs_buf_puts(ret, path);
}

const char *verb_shown(struct verb_call *call, const char *operand, struct mfs_buf *buf)
{
	mfs_buf_clear(buf);
	if (call->mountpoint && call->mountpoint[0])
		(void)mfs_buf_printf(buf, "%s%s", call->mountpoint,
				     operand[0] && operand[0] != '/' ? "/" : "");
	(void)mfs_buf_puts(buf, operand);
	return buf->len ? mfs_buf_str(buf) : "/";
}

bool verb_is_admin(const struct verb_call *call)
{
	return call->cred.uid == 0 || call->cred.uid == geteuid();
}

int verb_parent(struct verb_call *call, const char *path, int mask, struct entry *ret, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	struct entry e;
	int r;

	if (!path[0])
		return -EINVAL;
	*ret_name = slash ? slash + 1 : path;
	r = namespace_resolve_as(call->vol->ns, call->op, &call->cred, path,
				 slash ? (size_t)(slash - path) : 0, mask | X_OK, &e);
	if (r < 0)
		return r;
	if (!attr_is_dir(&e.node.attr)) {
		entry_release(&e);
		return -ENOTDIR;
	}
	*ret = e;
	return 0;
}

void verb_changed(struct verb_call *call, mfs_ino_t ino, mfs_ino_t parent, const char *name)
{
	if (call->changed)
		call->changed(call->changed_arg, ino, parent, name);
}

/* --- printing --- */

static void json_key(FILE *f, bool *first, const char *key)
{
	fprintf(f, "%s\"%s\": ", *first ? "" : ", ", key);
	*first = false;
}

void json_text(FILE *f, bool *first, const char *key, const char *value)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(8 * VERB_PATH_MAX);

	json_key(f, first, key);
	if (value && mfs_buf_put_json(&b, value) == 0)
		fputs(mfs_buf_str(&b), f);
	else
		fputs("null", f);
}

void json_number(FILE *f, bool *first, const char *key, uint64_t value)
{
	json_key(f, first, key);
	fprintf(f, "%" PRIu64, value);
}

void json_time(FILE *f, bool *first, const char *key, int64_t ns)
{
	char buf[40];

	json_text(f, first, key, mfs_str_put_time(buf, sizeof(buf), ns));
}

void json_bool(FILE *f, bool *first, const char *key, bool value)
{
	json_key(f, first, key);
	fputs(value ? "true" : "false", f);
}

void verb_progress_show(struct verb_progress *p, uint64_t done, uint64_t total)
{
	int64_t now = mfs_mono_ns();

	if (!p->call->progress || now < p->next)
		return;
	p->next = now + MFS_NSEC_PER_SEC / 5;
	p->shown = true;
	if (total)
		fprintf(p->call->err, "\r%s: %" PRIu64 " of %" PRIu64 "\033[K", p->what, done, total);
	else
		fprintf(p->call->err, "\r%s: %" PRIu64 "\033[K", p->what, done);
	fflush(p->call->err);
}

void verb_progress_end(struct verb_progress *p)
{
	if (p->shown)
		fputs("\r\033[K", p->call->err);
	fflush(p->call->err);
	p->shown = false;
}

const char *verb_type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	default:
		return "unknown";
	}
}

char *verb_user_name(uid_t uid, char *buf, size_t size)
{
	char space[4096];
	struct passwd pw, *found = NULL;

	if (getpwuid_r(uid, &pw, space, sizeof(space), &found) == 0 && found && strlen(found->pw_name) < size)
		snprintf(buf, size, "%s", found->pw_name);
	else
		snprintf(buf, size, "%u", uid);
	return buf;
}
