/*
 * An index of an older schema made one of this version's: in one transaction, so that a crash leaves the old one or the
 * new one.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "meta/engine.h"
#include "meta/sqlite_schema.h"
#include "meta/sqlite_tags.h"
#include "meta/sqlite_vfs.h"

/* The steps from each schema to the next; what is too much for one statement would stand here as a function. */
static const char *const steps[MFS_SCHEMA] = { [1] = sqlite_ddl_1_to_2, [2] = sqlite_ddl_2_to_3 };

static int run_steps(struct sqlite_conn *c, int64_t version)
{
	int r = 0;

	for (; r == 0 && version < MFS_SCHEMA; version++) {
		r = conn_exec_text(c, steps[version]);
		if (r == 0 && version == 2)
			r = tags_rebuild(c);
	}
	return r;
}

static int upgrade(struct sqlite_conn *c, uint32_t *ret_from)
{
	int64_t id = 0, version = 0;
	int r = conn_query_i64(c, "PRAGMA application_id", &id);

	if (r == 0)
		r = conn_query_i64(c, "PRAGMA user_version", &version);
	if (r < 0)
		return r;
	/* What it is not to be upgraded for is told as at any open. */
	if (id != SQLITE_APPLICATION_ID || version < 1 || version >= MFS_SCHEMA)
		r = schema_check(c);
	else
		r = run_steps(c, version);
	if (r == 0)
		r = schema_check_volume(c);
	if (r == 0)
		*ret_from = (uint32_t)version;
	return r;
}

int sqlite_engine_upgrade(const char *path, uint32_t *ret_from)
{
	struct sqlite_conn c = { 0 };
	uint32_t from = 0;
	int r;

	if (access(path, F_OK) < 0)
		return -errno;
	r = conn_open(&c, path, SQLITE_VFS_BASE, CONN_OPENING, MFS_MIB);
	if (r < 0)
		return r;
	/* Each commit is on the disk; the last connection's close empties the log. */
	r = schema_check_length(&c);
	if (r == 0)
		r = conn_exec_text(&c, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN IMMEDIATE");
	if (r == 0)
		r = upgrade(&c, &from);
	if (r == 0)
		r = conn_exec_text(&c, "COMMIT");
	if (r < 0)
		conn_rollback(&c);
	else if (from != MFS_SCHEMA)
		mfs_log(MFS_LOG_META, MFS_LOG_INFO, NULL, "index=%s schema=%u is now schema=%d", path, from, MFS_SCHEMA);
	conn_close(&c);
	if (r == 0)
		*ret_from = from;
	return r;
}
