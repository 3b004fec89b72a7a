/*
 * A volume's collections from one database to another, for an index that is made beside the one in use. Within a replica set a
 * rename across databases is a copy on the server that becomes visible at its end.
 */
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "meta/mongo_internal.h"

#define NAMESPACE_NOT_FOUND 26
#define NS_MAX		    256

static int64_t code_of(const bson_t *reply)
{
	bson_iter_t it;

	return bson_iter_init_find(&it, reply, "code") ? bson_iter_as_int64(&it) : 0;
}

/* 1; 0: there is no such collection. */
static int move_one(struct mongo_conn *c, const char *from, const char *to, const char *collection)
{
	char from_ns[NS_MAX], to_ns[NS_MAX];
	bson_t *cmd, reply;
	int r;

	snprintf(from_ns, sizeof(from_ns), "%s.%s", from, collection);
	snprintf(to_ns, sizeof(to_ns), "%s.%s", to, collection);
	cmd = BCON_NEW("renameCollection", BCON_UTF8(from_ns), "to", BCON_UTF8(to_ns));
	r = mongo_run(c, MONGO_WRITE | MONGO_AGAIN | MONGO_ADMIN | MONGO_QUIET, cmd, &reply);
	if (r < 0 && code_of(&reply) == NAMESPACE_NOT_FOUND)
		r = 0;
	else if (r < 0)
		mfs_log(MFS_LOG_META, MFS_LOG_ERR, NULL, "mongodb %s: %s cannot be moved to %s (%s)", c->m->where, from_ns, to_ns,
			code_of(&reply) ? "the server refuses" : strerror(-r));
	else
		r = 1;
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}

int mongo_engine_move(struct engine *e, struct op_ctx *op, const char *from, const char *to, enum mongo_move how, bool *ret_any)
{
	MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;
	int r = mongo_conn_get(mongo_of(e), op, &c);
	const char *name;

	*ret_any = false;
	if (r == 0 && how == MONGO_MOVE_AWAY)
		r = move_one(c, from, to, MONGO_VOLUME);
	*ret_any = r > 0;
	for (size_t i = 0; r >= 0 && (name = mongo_schema_collection(i)); i++) {
		if (strcmp(name, MONGO_VOLUME) == 0)
			continue;
		r = move_one(c, from, to, name);
		*ret_any |= r > 0;
	}
	if (r >= 0 && how == MONGO_MOVE_IN) {
		r = move_one(c, from, to, MONGO_VOLUME);
		*ret_any |= r > 0;
	}
	return MFS_MIN(r, 0);
}

int mongo_engine_drop(struct engine *e, struct op_ctx *op)
{
	MFS_AUTO(mongo_conn) struct mongo_conn *c = NULL;
	int r = mongo_conn_get(mongo_of(e), op, &c);
	bson_t *cmd, reply;

	if (r < 0)
		return r;
	cmd = BCON_NEW("dropDatabase", BCON_INT32(1));
	r = mongo_run(c, MONGO_WRITE | MONGO_AGAIN, cmd, &reply);
	bson_destroy(&reply);
	bson_destroy(cmd);
	return r;
}
