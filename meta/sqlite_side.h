/*
 * Reading the side collections: versions, trash, dropped, jobs, sessions, volume. Private to meta/sqlite_*.
 * Each runs on a connection that the caller holds; results are appended.
 */
#ifndef MASSFS_META_SQLITE_SIDE_H
#define MASSFS_META_SQLITE_SIDE_H

#include "meta/records.h"
#include "meta/sqlite_conn.h"

int side_versions_by_path(struct sqlite_conn *c, const char *path, struct version_list *ret) MFS_NODISCARD;
int side_versions_by_ino(struct sqlite_conn *c, mfs_ino_t ino, struct version_list *ret) MFS_NODISCARD;
int side_versions_expired(struct sqlite_conn *c, int64_t now, size_t limit, struct version_list *ret) MFS_NODISCARD;
int side_versions_all(struct sqlite_conn *c, mfs_ino_t after_ino, uint64_t after_data, size_t limit,
		      struct version_list *ret) MFS_NODISCARD;
int side_trash_by_path(struct sqlite_conn *c, const char *path, struct node_list *ret) MFS_NODISCARD;
int side_trash_before(struct sqlite_conn *c, int64_t before, size_t limit, struct node_list *ret) MFS_NODISCARD;
int side_dropped(struct sqlite_conn *c, int64_t before, uint64_t after_id, size_t limit,
		 struct dropped_list *ret) MFS_NODISCARD;
int side_slices_get(struct sqlite_conn *c, mfs_ino_t ino, uint64_t id, struct node_blob *ret) MFS_NODISCARD;
int side_slices_all(struct sqlite_conn *c, mfs_ino_t after_ino, uint64_t after_id, size_t limit,
		    struct slices_doc_list *ret) MFS_NODISCARD;
int side_jobs(struct sqlite_conn *c, int64_t due_before, size_t limit, struct job_list *ret) MFS_NODISCARD;
int side_jobs_count(struct sqlite_conn *c, uint64_t *ret) MFS_NODISCARD;
int side_sessions(struct sqlite_conn *c, struct session_list *ret) MFS_NODISCARD;
int side_next_number(struct sqlite_conn *c, uint64_t *ret) MFS_NODISCARD;
struct alias;
int side_aliases_all(struct sqlite_conn *c, uint64_t after_id, struct alias *ret, size_t max) MFS_NODISCARD;
int side_jobs_from(struct sqlite_conn *c, const struct job_record *from, size_t limit, struct job_list *ret) MFS_NODISCARD;
int side_cell_get(struct sqlite_conn *c, const char *name, struct cell_record *ret) MFS_NODISCARD;
int side_cells(struct sqlite_conn *c, const char *prefix, const char *after, size_t limit, struct cell_list *ret) MFS_NODISCARD;
int side_volume_get(struct sqlite_conn *c, struct volume_record *ret) MFS_NODISCARD; /* -ENOENT: not formatted */
int side_volume_put(struct sqlite_conn *c, const struct volume_record *v) MFS_NODISCARD; /* in a transaction */

#endif
