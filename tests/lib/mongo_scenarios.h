/* Every kind of change on MongoDB: made behind a proxy, with a second session beside it, and how to tell that it was done once. */
#ifndef MASSFS_TESTS_MONGO_SCENARIOS_H
#define MASSFS_TESTS_MONGO_SCENARIOS_H

#include "tests/lib/engine_suite.h"
#include "tests/lib/mongo_proxy.h"
#include "tests/lib/mongo_server.h"
#include "tests/lib/store_suite.h"

#define MONGO_CONNECTIONS 4

/* One volume: `e` behind a proxy, `other` beside it. */
struct mongo_world {
	char *dir;
	char database[64];
	struct mongo_proxy *proxy;
	struct engine *e, *other;
	/* Of a scenario. */
	mfs_ino_t d, d2, a, b;
	uint64_t id;
	struct mfs_attr attr, before;
	bool quiet; /* the meddler leaves the record alone */
};

struct mongo_scenario {
	const char *name;
	unsigned int
		trips; /* commands that it sends; the table is in meta/mongo_apply.c and docs/design.md */
	void (*prepare)(struct mongo_world *w);
	int (*go)(struct mongo_world *w);
	void (*check)(struct mongo_world *w); /* done, once */
};

extern const struct mongo_scenario mongo_scenarios[];
extern const size_t mongo_n_scenarios;

int mongo_world_setup(void **state); /* for cmocka */
int mongo_world_teardown(void **state);

/* Folders of its own for a scenario, and what it works on. round: each once. */
void mongo_scenario_begin(struct mongo_world *w, const struct mongo_scenario *s, unsigned int round);
/* What the other session does meanwhile: an edit of the record. */
void mongo_meddle(void *arg);

/* Parts of scenarios. */
void mongo_prepare_file(struct mongo_world *w);
int mongo_go_edit(struct mongo_world *w);
int mongo_go_create(struct mongo_world *w);
void mongo_check_create(struct mongo_world *w);

#endif
