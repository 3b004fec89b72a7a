/*
 * A MongoDB for a test program: started by tests/servers in a folder of its own, ended with the program. MASSFS_MONGO (a
 * mongodb:// URI) names one that runs instead.
 */
#ifndef MASSFS_TESTS_LIB_MONGO_SERVER_H
#define MASSFS_TESTS_LIB_MONGO_SERVER_H

#include "tests/lib/engine_suite.h"

struct mongo_server {
	char *uri;
	char *dir; /* of tests/servers; NULL: it was running */
	long pid;  /* 0: not ours */
};

/* Once a program. Ends the program with a message when it does not come up. */
const struct mongo_server *mongo_server_start(void);
void mongo_server_stop(void);

/* The database of a test's folder: the same again for the same folder. */
void mongo_server_database(const char *dir, char ret[static 64]);
/* An engine on that database, made when it is not there, as struct engine_kind wants it; and the database away. */
int mongo_server_open(const char *dir, void **shared, struct engine **ret);
void mongo_server_release(void *shared);

#endif
