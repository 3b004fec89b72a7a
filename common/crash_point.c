/*
 * common/crash_point.h. The environment is read at each call: this is for tests, and it is set before the process
 * starts. The count is the one mutable global of the program; it can only be of one name, so one is enough.
 */
#include "common/crash_point.h"

#ifdef MASSFS_CRASH_POINTS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void mfs_crash_point(const char *name)
{
	static atomic_ulong hits;
	const char *at = getenv("MASSFS_CRASH_AT");
	size_t len = strlen(name);
	unsigned long nth = 1;

	if (!at || strncmp(at, name, len) != 0 || (at[len] && at[len] != ':'))
		return;
	if (at[len])
		nth = strtoul(at + len + 1, NULL, 10);
	if (atomic_fetch_add(&hits, 1) + 1 != nth)
		return;
	kill(getpid(), SIGKILL);
	/* The signal is on its way, but other threads may run until it is there; this one does not go on. */
	for (;;)
		pause();
}
#else
typedef int mfs_no_crash_points; /* ISO C wants something in a file */
#endif
