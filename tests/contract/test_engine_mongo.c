/*
 * The mongo engine through the contract suite, with two engine objects on one database, and what it alone has: damaged
 * documents, a server that hangs or is gone, refusals at opening.
 */
#include "common/defs.h"
#include "tests/lib/mongo_server.h"

int main(void)
{
	static const struct engine_kind kind = { .name = "mongo",
						 .open = mongo_server_open,
						 .release = mongo_server_release,
						 .persists = true,
						 .two_instances = true,
						 .record_ring = 16,
						 .puts_first = true,
						 .share = 5 };
	int failed;

	mongo_server_start();
	failed = engine_suite_run(&kind);
	mongo_server_stop();
	return failed != 0;
}
