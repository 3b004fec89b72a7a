/*
 * Attributes and scope-exit cleanup, used by every layer.
 *
 * A cleanup variable is declared at the top of its function and initialised there (to NULL, -1 or {0}), before
 * the first goto: the handler runs on every way out of the scope.
 */
#ifndef MASSFS_COMMON_DEFS_H
#define MASSFS_COMMON_DEFS_H

#include <stddef.h>
#include <stdlib.h>

#define MFS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MFS_NODISCARD	      __attribute__((warn_unused_result))
#define MFS_CLEANUP(fn)	      __attribute__((cleanup(fn)))
#define MFS_AUTOFREE	      MFS_CLEANUP(mfs_autofree_exit)

#define MFS_CAT_(a, b) a##b
#define MFS_CAT(a, b)  MFS_CAT_(a, b)

#define MFS_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MFS_MIN(a, b)	 ((a) < (b) ? (a) : (b))
#define MFS_MAX(a, b)	 ((a) > (b) ? (a) : (b))
#define MFS_KIB		 ((uint64_t)1 << 10)
#define MFS_MIB		 ((uint64_t)1 << 20)
#define MFS_GIB		 ((uint64_t)1 << 30)
#define MFS_TIB		 ((uint64_t)1 << 40)

#define mfs_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* Give the pointer away: yields it, leaves NULL for the cleanup to skip. */
#define MFS_TAKE(ptr)                     \
	({                                \
		typeof(ptr) taken_ = ptr; \
		(ptr) = NULL;             \
		taken_;                   \
	})

/*
 * After MFS_DEFINE_AUTO(name, type, put), a variable declared with MFS_AUTO(name) is passed to `put` on every way
 * out of its scope. `put` takes NULL as nothing to do.
 */
#define MFS_AUTO(name) MFS_CLEANUP(mfs_auto_##name##_exit)
#define MFS_DEFINE_AUTO(name, type, put)                     \
	static inline void mfs_auto_##name##_exit(type **pp) \
	{                                                    \
		(put)(*pp);                                  \
	}                                                    \
	struct mfs_semicolon_

static inline void mfs_autofree_exit(void *pp)
{
	free(*(void **)pp);
}

#endif
