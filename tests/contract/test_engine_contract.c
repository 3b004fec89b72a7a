/*
 * Every engine through the contract suite, each also through the fault layer that never fails. A new engine adds its
 * constructor here.
 */
#include <stdio.h>

#include "common/defs.h"
#include "tests/lib/engine_suite.h"

static int open_mem(const char *dir, void **shared, struct engine **ret)
{
	struct mem_shared *s = *shared;
	int r = s ? 0 : mem_shared_new(&s);

	(void)dir;
	*shared = s;
	return r < 0 ? r : mem_engine_new(s, ret);
}

static void release_mem(void *shared)
{
	mem_shared_free(shared);
}

static int open_sqlite_with(const char *dir, bool nosync, struct engine **ret)
{
	const struct sqlite_options opt = { .create = true, .nosync = nosync };
	char path[4096];

	snprintf(path, sizeof(path), "%s/index.db", dir);
	return sqlite_engine_open(path, &opt, ret);
}

static int open_sqlite(const char *dir, void **shared, struct engine **ret)
{
	(void)shared;
	return open_sqlite_with(dir, false, ret);
}

static int open_sqlite_nosync(const char *dir, void **shared, struct engine **ret)
{
	(void)shared;
	return open_sqlite_with(dir, true, ret);
}

static int through_fault(int r, struct engine **e)
{
	const struct fault_plan none = { 0 };
	struct engine *inner = *e;

	if (r < 0)
		return r;
	r = fault_engine_new(inner, &none, e);
	if (r < 0)
		engine_free(inner);
	return r;
}

static int open_fault_mem(const char *dir, void **shared, struct engine **ret)
{
	return through_fault(open_mem(dir, shared, ret), ret);
}

static int open_fault_sqlite(const char *dir, void **shared, struct engine **ret)
{
	return through_fault(open_sqlite_nosync(dir, shared, ret), ret);
}

int main(void)
{
	static const struct engine_kind kinds[] = {
		{ .name = "mem", .open = open_mem, .release = release_mem, .persists = true, .two_instances = true },
		{ .name = "sqlite,nosync", .open = open_sqlite_nosync, .persists = true, .two_instances = true },
		{ .name = "sqlite", .open = open_sqlite, .persists = true, .two_instances = true, .share = 10 },
		{ .name = "sqlite, one instance", .open = open_sqlite_nosync, .persists = true, .share = 10 },
		{ .name = "fault+mem", .open = open_fault_mem, .release = release_mem, .persists = true, .share = 5 },
		{ .name = "fault+sqlite", .open = open_fault_sqlite, .persists = true, .share = 5 },
	};
	int failed = 0;

	for (size_t i = 0; i < MFS_ARRAY_LEN(kinds); i++)
		failed += engine_suite_run(&kinds[i]);
	return failed != 0;
}
