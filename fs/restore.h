/*
 * Old content for the verbs: a version, or what a removed file had, read out or made the content of a file again.
 */
#ifndef MASSFS_FS_RESTORE_H
#define MASSFS_FS_RESTORE_H

#include "fs/verbs.h"

/*
 * The content of p becomes that of inode `ino`; what it has now becomes a version. What the same inode had comes back
 * without its bytes being moved: the record names its objects, segments and documents again. Another inode gets an object
 * of its own (fs/gc.h: objects carry the number of the inode that names them). -ENODATA: the bytes are not there any more.
 */
int restore_content(struct verb_call *call, const struct past *p, mfs_ino_t ino) MFS_NODISCARD;
/* All of it to call->out. -ENODATA as above. */
int restore_print(struct verb_call *call, const struct past *p) MFS_NODISCARD;

#endif
