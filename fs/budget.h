/*
 * One bound on the memory that file data takes: dirty ranges and parts under way. A writer reserves before it grows
 * and waits while too much is out (back-pressure); part buffers of the usual size are kept for reuse.
 */
#ifndef MASSFS_FS_BUDGET_H
#define MASSFS_FS_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/defs.h"

struct budget;

int budget_new(uint64_t max_bytes, struct budget **ret) MFS_NODISCARD;
void budget_free(struct budget *b); /* all memory given back before. NULL: nothing */

/* Reserve without waiting: false when it would exceed the maximum. */
bool budget_try(struct budget *b, size_t bytes);
/* Wait until there is room or timeout_ms passed: -EAGAIN then. The caller holds no lock. */
int budget_wait(struct budget *b, size_t bytes, unsigned int timeout_ms) MFS_NODISCARD;
void budget_put(struct budget *b, size_t bytes);
uint64_t budget_used(struct budget *b);
uint64_t budget_max(const struct budget *b);

/* A buffer of OBJECT_PART_MIN bytes, reserved already by the caller; NULL: no memory. */
void *budget_part_alloc(struct budget *b);
void budget_part_free(struct budget *b, void *part);

#endif
