/* Calling tests/servers. */
#ifndef MASSFS_TESTS_SERVER_RUN_H
#define MASSFS_TESTS_SERVER_RUN_H

#include <stdio.h>

/* What it prints, to be read and given to pclose(). Ends the program where it cannot be run. */
FILE *test_servers(const char *verb, const char *service, const char *dir);

#endif
