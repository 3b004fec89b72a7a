/*
 * Every store through the contract suite, each also through the fault decorator that never fails.
 */
#include "backend/object_store.h"
#include "common/defs.h"
#include "tests/lib/store_suite.h"

static int open_localdir(const char *dir, struct object_store **ret)
{
	const struct localdir_options opt = { .create = true };

	return localdir_store_open(dir, &opt, ret);
}

static int open_localdir_nosync(const char *dir, struct object_store **ret)
{
	const struct localdir_options opt = { .create = true, .nosync = true };

	return localdir_store_open(dir, &opt, ret);
}

static int open_mem(const char *dir, struct object_store **ret)
{
	(void)dir;
	return mem_store_new(ret);
}

static int through_fault(int r, struct object_store **store)
{
	struct object_store *inner = *store;

	if (r < 0)
		return r;
	r = fault_store_new(inner, 0, 5, store);
	if (r < 0)
		object_store_free(inner);
	return r;
}

static int open_fault_localdir(const char *dir, struct object_store **ret)
{
	return through_fault(open_localdir_nosync(dir, ret), ret);
}

static int open_fault_mem(const char *dir, struct object_store **ret)
{
	return through_fault(open_mem(dir, ret), ret);
}

int main(void)
{
	static const struct store_kind kinds[] = {
		{ .name = "mem", .open = open_mem, .rounds = 200 },
		{ .name = "fault+mem", .open = open_fault_mem, .rounds = 50 },
		{ .name = "localdir,nosync",
		  .open = open_localdir_nosync,
		  .persists = true,
		  .blocks = true,
		  .rounds = 200 },
		{ .name = "fault+localdir,nosync",
		  .open = open_fault_localdir,
		  .persists = true,
		  .blocks = true,
		  .rounds = 20 },
		{ .name = "localdir", .open = open_localdir, .persists = true, .blocks = true, .rounds = 8 },
	};
	int failed = 0;

	for (size_t i = 0; i < MFS_ARRAY_LEN(kinds); i++)
		failed += store_suite_run(&kinds[i]);
	return failed ? 1 : 0;
}
