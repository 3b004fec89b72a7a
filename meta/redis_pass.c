/*
 * What the redis engine hands to the engine below as it is.
 */
#include "meta/redis_internal.h"

#define ENGINE_INNER(e) (redis_of(e)->inner)
#include "meta/engine_pass.h"

void redis_pass_ops(struct engine_ops *ops, const struct engine *inner)
{
	engine_pass_ops(ops, inner->ops);
	ops->find = inner->ops->find ? redis_find : NULL;
}
