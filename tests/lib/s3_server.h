/*
 * A MinIO for a test program: started by tests/servers in a folder of its own, ended with the program.
 */
#ifndef MASSFS_TESTS_LIB_S3_SERVER_H
#define MASSFS_TESTS_LIB_S3_SERVER_H

#include "backend/object_store.h"

struct s3_server {
	char *endpoints, *credentials; /* as struct s3_options has them */
	char *dir;
	long pids[8];
	unsigned int n_pids;
};

/* service: "minio" or "minio4". Ends the program with a message when it does not come up. */
void s3_server_start(const char *service, struct s3_server *ret);
void s3_server_stop(struct s3_server *s);

/* A bucket's name for a test's folder: the same again for the same folder. */
void s3_server_bucket(const char *dir, char ret[static 64]);

#endif
