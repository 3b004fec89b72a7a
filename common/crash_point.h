/*
 * Named places at which a test can have this process die, as if by kill -9 at just that instruction.
 *
 *     mfs_crash_point("commit.stored");	the object is there, the index does not name it yet
 *
 * MASSFS_CRASH_AT=name kills at the first time any thread comes there, MASSFS_CRASH_AT=name:N at the Nth. Compiled in
 * with cmake -DMASSFS_CRASH_POINTS=ON (Debug builds, and what tests/run builds); otherwise nothing is left of the call.
 *
 * Names are literals, WHERE.WHAT_HAS_JUST_HAPPENED, one place each: tests/cases/crash.py finds them by searching the
 * sources for calls of this and kills at each of them. No lock is needed, and any may be held: nothing is cleaned up.
 */
#ifndef MASSFS_COMMON_CRASH_POINT_H
#define MASSFS_COMMON_CRASH_POINT_H

#ifdef MASSFS_CRASH_POINTS
void mfs_crash_point(const char *name);
#else
#define mfs_crash_point(name) ((void)0)
#endif

#endif
