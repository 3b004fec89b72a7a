/*
 * Background work that one mount of a volume does for all: whoever has the role's lease. It is kept in the index cell
 * leases/ROLE and belongs to a session: when that is closed or dead, another mount takes it (fs/sessions.h). All that is
 * done under it stands on compare-and-set, so a frozen mount that still believes to have it does no harm.
 */
#ifndef MASSFS_FS_LEASES_H
#define MASSFS_FS_LEASES_H

#include <stdbool.h>

enum lease_role { LEASE_RECONCILE, LEASE_GC, LEASE_LOG, LEASE_ROLES };

struct volume;
/* Is it this mount's to do now? Always, where there is one mount only. No round trip. */
bool lease_hold(struct volume *v, enum lease_role role);

#endif
