/*
 * scrub: is what the store holds still what was written?
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/str.h"
#include "fs/scrub.h"
#include "fs/verbs_internal.h"

struct scrub_print {
	struct verb_progress progress;
	bool json, first;
};

static void print_damage_json(struct scrub_print *x, const struct scrub_damage *d)
{
	FILE *f = x->progress.call->out;
	bool first = true;

	fputs(x->first ? "{" : ",\n  {", f);
	x->first = false;
	json_text(f, &first, "what", d->what);
	json_text(f, &first, "path", d->path);
	json_text(f, &first, "state", d->state);
	json_number(f, &first, "ino", d->ino);
	json_text(f, &first, "key", d->key);
	json_text(f, &first, "version", d->version);
	json_number(f, &first, "object_bytes", d->size);
	json_number(f, &first, "lost_bytes", d->lost);
	json_text(f, &first, "detail", d->detail);
	json_text(f, &first, "intact", d->intact);
	json_bool(f, &first, "quarantined", d->quarantined);
	fputc('}', f);
}

static void print_damage(void *arg, const struct scrub_damage *d)
{
	struct scrub_print *x = arg;
	FILE *f = x->progress.call->out;

	if (x->json) {
		print_damage_json(x, d);
		return;
	}
	verb_progress_end(&x->progress);
	fprintf(f, "%s: %s (%s, inode %" PRIu64 ") - %s", d->what, d->path, d->state, d->ino, d->detail);
	if (d->version[0])
		fprintf(f, "; object %s version %s, %" PRIu64 " bytes, of which %" PRIu64 " are in this state", d->key,
			d->version, d->size, d->lost);
	fprintf(f, "; intact: %s%s\n", d->intact[0] ? d->intact : "none", d->quarantined ? " [set aside]" : "");
}

static void progress(void *arg, uint64_t bytes, uint64_t objects)
{
	(void)objects;
	verb_progress_show(&((struct scrub_print *)arg)->progress, bytes >> 20, 0);
}

static void set_aside(void *arg, mfs_ino_t ino)
{
	verb_changed(((struct scrub_print *)arg)->progress.call, ino, 0, NULL);
}

static void print_result_json(FILE *f, const struct scrub_result *s)
{
	bool first = false;

	fputc(']', f);
	json_number(f, &first, "files", s->files);
	json_number(f, &first, "versions", s->versions);
	json_number(f, &first, "objects", s->objects);
	json_number(f, &first, "bytes", s->bytes);
	json_number(f, &first, "unverified", s->unverified);
	json_number(f, &first, "unverified_bytes", s->unverified_bytes);
	json_number(f, &first, "damaged", s->damaged);
	json_number(f, &first, "quarantined", s->quarantined);
	json_number(f, &first, "failed", s->failed);
	fputs("}\n", f);
}

static void print_result(FILE *f, const struct scrub_result *s)
{
	char a[24], b[24];

	fprintf(f, "%" PRIu64 " files, %" PRIu64 " versions: %" PRIu64 " objects, %s read", s->files, s->versions,
		s->objects, mfs_str_put_size(a, sizeof(a), s->bytes));
	if (s->unverified)
		fprintf(f, " (%" PRIu64 " objects, %s, have no checksum in the index)", s->unverified,
			mfs_str_put_size(b, sizeof(b), s->unverified_bytes));
	if (s->damaged)
		fprintf(f, ": DAMAGE found %" PRIu64 " times, %" PRIu64 " objects set aside\n", s->damaged, s->quarantined);
	else
		fprintf(f, ": intact\n");
}

/* The inode of the operand; 0: everything. */
static int find_root(struct verb_call *call, const struct verb_args *args, mfs_ino_t *ret)
{
	MFS_AUTOBUF struct mfs_buf path = MFS_BUF_INIT(VERB_PATH_MAX);
	struct entry e;
	int r;

	*ret = 0;
	if (!args->operand || !args->operand[0] || (args->flags & FLAG_ALL))
		return 0;
	r = verb_path(call, args->operand, &path);
	if (r == 0)
		r = namespace_resolve(call->vol->ns, call->op, mfs_buf_str(&path), path.len, &e);
	if (r < 0)
		return r;
	*ret = e.node.attr.ino;
	entry_release(&e);
	return 0;
}

int verb_scrub(struct verb_call *call, const struct verb_args *args)
{
	MFS_AUTOBUF struct mfs_buf shown = MFS_BUF_INIT(VERB_PATH_MAX);
	struct scrub_print x = { .progress = { .call = call, .what = "MiB read" },
				 .json = args->flags & FLAG_JSON,
				 .first = true };
	struct scrub_options opt = {
		.rate = args->rate,
		.quarantine = args->flags & FLAG_QUARANTINE,
		.damage = print_damage,
		.progress = progress,
		.set_aside = set_aside,
		.arg = &x,
	};
	struct scrub_result res = { 0 };
	int r = find_root(call, args, &opt.root);

	if (r < 0)
		return verb_fail(call, "%s: %s", verb_shown(call, args->operand, &shown), verb_strerror(r));
	if (x.json)
		fputs("{\"damage\": [", call->out);
	r = scrub_run(call->vol, call->op, &opt, &res);
	verb_progress_end(&x.progress);
	if (x.json)
		print_result_json(call->out, &res);
	else
		print_result(call->out, &res);
	if (r < 0)
		return verb_fail(call, "given up after %" PRIu64 " objects: %s", res.objects, verb_strerror(r));
	return res.damaged || res.failed ? VERB_FAILED : VERB_OK;
}
