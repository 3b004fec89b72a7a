/*
 * The daemon's part of `massfs dump`: the text of the index, from a snapshot of it.
 */
#include <errno.h>

#include "fs/dump.h"
#include "fs/verbs_internal.h"

struct output {
	struct verb_call *call;
	struct verb_progress progress;
};

static int write_out(void *arg, const void *buf, size_t len)
{
	struct output *o = arg;

	if (fwrite(buf, 1, len, o->call->out) == len)
		return 0;
	return errno ? -errno : -EIO;
}

static int show(void *arg, uint64_t done, uint64_t total)
{
	struct output *o = arg;

	if (atomic_load(&o->call->op->cancelled))
		return -ECANCELED;
	verb_progress_show(&o->progress, done, total);
	return 0;
}

int verb_dump(struct verb_call *call, const struct verb_args *args)
{
	struct output o = { .call = call, .progress = { .call = call, .what = "records" } };
	struct record_counts counts;
	int r;

	(void)args;
	r = dump_index(call->vol->engine, call->op, write_out, &o, show, &o, &counts);
	verb_progress_end(&o.progress);
	return r < 0 ? verb_fail(call, "%s", verb_strerror(r)) : VERB_OK;
}
