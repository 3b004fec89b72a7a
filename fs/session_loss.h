/* What becomes of open files when this mount was taken for dead: fs/sessions.h. */
#ifndef MASSFS_FS_SESSION_LOSS_H
#define MASSFS_FS_SESSION_LOSS_H

#include "fs/fs.h"

/* From now on, until the hooks of fs->vol->sessions are taken away. Nothing on a volume that one mount has. */
void session_loss_hook(struct massfs *fs);

#endif
