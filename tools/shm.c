/*
 * libmongoc's counters stay in this process.
 *
 * Its constructor, which runs in every massfs before main() and for every kind of volume, makes the file /dev/shm/mongoc-PID for
 * them: a process that is killed leaves it there, and one that finds the name taken (its pid is another one's in another pid
 * namespace, or was a killed one's) has a warning on stderr. Its switch is an environment variable, which nobody can set as
 * early. So what it calls for that file is here, and has no name. Nothing else in the process uses these two.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

int shm_open(const char *name, int flags, mode_t mode)
{
	(void)flags;
	(void)mode;
	return memfd_create(name, MFD_CLOEXEC);
}

int shm_unlink(const char *name)
{
	(void)name;
	return 0;
}
