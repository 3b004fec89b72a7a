/*
 * The schema and every statement of the sqlite engine. Only text; what it means to the engine is in the callers.
 *
 * A database browser shows one readable row per inode in `files`. A name, path or key is TEXT where it is valid
 * UTF-8 and a BLOB of the same bytes where not (row_bind_bytes() decides, so equal bytes always compare equal).
 */
#include "meta/sqlite_sql.h"

/* Columns 2-4, 5-21 and 22-41 of enum row_col, and 42-44 of the trash alone. */
#define PLACE_COLUMNS(X) X(2, parent) X(3, name) X(4, pos)
#define ATTR_COLUMNS(X)                                                                                         \
	X(6, uid) X(7, gid) X(8, nlink) X(9, rdev) X(10, size) X(11, obj_len) X(12, alloc) X(13, atime)         \
	X(14, mtime) X(15, ctime) X(16, btime) X(17, ver) X(18, data) X(19, lay) X(20, flags) X(21, children)
#define BODY_COLUMNS(X)                                                                                         \
	X(22, dying) X(23, store) X(24, bucket) X(25, key) X(26, version) X(27, etag) X(28, hash) X(29, symlink) \
	X(30, xattrs) X(31, creator_uid) X(32, creator_user) X(33, creator_host) X(34, mime) X(35, todo)        \
	X(36, pending) X(37, quota) X(38, fenced) X(39, inline_len) X(40, slices_len)      \
	X(41, holes)
#define TRASH_COLUMNS(X) X(42, trash_path) X(43, trash_time) X(44, openers)

#define AS_COLUMN(n, col) "," #col
#define AS_FILE(n, col)	  ",f." #col
#define AS_PARAM(n, col)  ",?" #n
#define AS_SET(n, col)	  "," #col "=?" #n

#define COLUMNS	     "ino" PLACE_COLUMNS(AS_COLUMN) ",mode" ATTR_COLUMNS(AS_COLUMN) BODY_COLUMNS(AS_COLUMN)
#define PARAMS	     "?1" PLACE_COLUMNS(AS_PARAM) ",?5" ATTR_COLUMNS(AS_PARAM) BODY_COLUMNS(AS_PARAM)
#define FILE_COLUMNS "f.ino" PLACE_COLUMNS(AS_FILE) ",f.mode" ATTR_COLUMNS(AS_FILE) BODY_COLUMNS(AS_FILE)

#define SELECT_FILE  "SELECT " COLUMNS ",NULL,0,NULL,0 FROM files "
#define SELECT_TRASH "SELECT " COLUMNS TRASH_COLUMNS(AS_COLUMN) ",1 FROM trash "

#define SELECT_VERSION                                                                                  \
	"SELECT ino,data,path,store,bucket,key,version,size,obj_len,mtime,replaced,until,mode,uid,gid," \
	"writer,etag,slices,inline FROM versions "

/*
 * The columns that a record has in files and in trash alike. Inline bytes and slices are in `contents`, under the same
 * number whichever of the two tables the record is in: so a listing, a chmod, a rename and an unlink neither read nor
 * write them, and a page of `files` holds as many rows as before.
 */
#define RECORD_DDL                                                                                                \
	"ino INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT, pos INTEGER NOT NULL, mode INTEGER NOT NULL," \
	"uid INTEGER NOT NULL, gid INTEGER NOT NULL, nlink INTEGER NOT NULL, rdev INTEGER NOT NULL,"              \
	"size INTEGER NOT NULL, obj_len INTEGER NOT NULL, alloc INTEGER NOT NULL, atime INTEGER NOT NULL,"        \
	"mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, btime INTEGER NOT NULL, ver INTEGER NOT NULL,"           \
	"data INTEGER NOT NULL, lay INTEGER NOT NULL, flags INTEGER NOT NULL, children INTEGER NOT NULL,"         \
	"dying INTEGER NOT NULL, store INTEGER NOT NULL, bucket TEXT, key TEXT, version TEXT, etag TEXT,"         \
	"hash TEXT, symlink TEXT, xattrs BLOB, creator_uid INTEGER NOT NULL, creator_user TEXT,"                  \
	"creator_host TEXT, mime TEXT, todo INTEGER NOT NULL, pending INTEGER NOT NULL, quota INTEGER NOT NULL,"  \
	"fenced BLOB, inline_len INTEGER, slices_len INTEGER, holes BLOB,"                                         \
	"type TEXT GENERATED ALWAYS AS (CASE mode>>12 WHEN 8 THEN 'file' WHEN 4 THEN 'dir' WHEN 10 THEN 'symlink'" \
	" WHEN 1 THEN 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'char' WHEN 6 THEN 'block' END) VIRTUAL"

/* ATTR_HAS_LABEL; the same text in index and query, or SQLite does not see that the one serves the other. */
#define LABELLED "flags&64"
#define WITH_ACL "flags&12" /* ATTR_HAS_ACL, ATTR_HAS_DEFAULT_ACL */
#define ACL_DDL                                                 \
	"CREATE INDEX files_acl ON files(ino) WHERE " WITH_ACL ";" \
	"CREATE INDEX trash_acl ON trash(ino) WHERE " WITH_ACL ";"

#define CONTENTS_DDL "CREATE TABLE contents(ino INTEGER PRIMARY KEY, inline BLOB, slices BLOB);"
/* In order of (todo, ino): the number of the row is the last column of every index. */
#define TODO_DDL "CREATE INDEX files_todo ON files(todo) WHERE todo<>0;"
#define SLICES_DDL                                                                                      \
	"CREATE TABLE slices(ino INTEGER NOT NULL, id INTEGER NOT NULL, session INTEGER NOT NULL, blob BLOB," \
	" PRIMARY KEY(ino,id));"

/* In place of tables that no version had a use for. */
#define CELLS_DDL "CREATE TABLE cells(name TEXT PRIMARY KEY, token INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;"

/* See sqlite_tags.h. The key serves equality in order of inodes, the first index presence, the second ranges of numbers. */
#define TAGS_DDL                                                                                                        \
	"CREATE TABLE tags(k BLOB NOT NULL, v BLOB NOT NULL, ino INTEGER NOT NULL, bare INTEGER NOT NULL, num REAL,"    \
	" PRIMARY KEY(k,v,ino,bare)) WITHOUT ROWID;"                                                                    \
	"CREATE INDEX tags_ino ON tags(k,ino);"                                                                         \
	"CREATE INDEX tags_num ON tags(k,num,ino) WHERE num IS NOT NULL;"
#define FIELDS_DDL                                                       \
	"CREATE INDEX files_hash ON files(hash) WHERE hash IS NOT NULL;" \
	"CREATE INDEX files_mtime ON files(mtime);"                      \
	"CREATE INDEX files_btime ON files(btime);"                      \
	"CREATE INDEX files_size ON files(size);"
#define FIND_BY(column)                                                                                        \
	"SELECT ino FROM files INDEXED BY files_" column " WHERE " column ">=?4 AND " column "<=?5 AND ino>?1" \
	" ORDER BY ino LIMIT ?2"
#define SCAN_BY(column) \
	"SELECT ino FROM files NOT INDEXED WHERE " column ">=?4 AND " column "<=?5 AND ino>?1 ORDER BY ino LIMIT ?2"
#define COUNT_BY(column)                                                                                            \
	"SELECT count(*) FROM (SELECT 1 FROM files INDEXED BY files_" column " WHERE " column ">=?3 AND " column "<=?4" \
	" LIMIT ?1)"

/* The rows of tags are made anew behind it (tags_rebuild). */
const char sqlite_ddl_2_to_3[] = "DROP TABLE shared; DROP TABLE locks;" CELLS_DDL "DROP TABLE tags;" TAGS_DDL FIELDS_DDL
				 "UPDATE volume SET schema=3 WHERE formatted;"
				 "PRAGMA user_version=3";

const char sqlite_ddl_1_to_2[] =
	"ALTER TABLE files RENAME COLUMN inline TO inline_len;"
	"ALTER TABLE files RENAME COLUMN slices TO slices_len;"
	"ALTER TABLE trash RENAME COLUMN inline TO inline_len;"
	"ALTER TABLE trash RENAME COLUMN slices TO slices_len;"
	"ALTER TABLE versions ADD COLUMN etag TEXT;"
	"ALTER TABLE versions ADD COLUMN slices BLOB;"
	"ALTER TABLE versions ADD COLUMN inline BLOB;"
	"ALTER TABLE dropped ADD COLUMN doc_id INTEGER NOT NULL DEFAULT 0;"
	"DROP INDEX files_todo;" TODO_DDL
	"DROP TABLE slices;" SLICES_DDL CONTENTS_DDL ACL_DDL
	"UPDATE volume SET schema=2 WHERE formatted;"
	"PRAGMA user_version=2";

const char sqlite_ddl[] =
	"CREATE TABLE files(" RECORD_DDL ");"
	"CREATE UNIQUE INDEX files_name ON files(parent,name);"
	"CREATE INDEX files_pos ON files(parent,pos);"
	"CREATE INDEX files_key ON files(key) WHERE key IS NOT NULL;"
	TODO_DDL CONTENTS_DDL SLICES_DDL
	"CREATE INDEX files_label ON files(ino) WHERE " LABELLED ";"
	"CREATE TABLE trash(" RECORD_DDL ", trash_path TEXT, trash_time INTEGER NOT NULL, openers BLOB);"
	"CREATE INDEX trash_by_path ON trash(trash_path);"
	"CREATE INDEX trash_by_time ON trash(trash_time);"
	"CREATE INDEX trash_label ON trash(ino) WHERE " LABELLED ";" ACL_DDL
	"CREATE TABLE aliases(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT NOT NULL,"
	" target INTEGER NOT NULL);"
	"CREATE UNIQUE INDEX aliases_name ON aliases(parent,name);"
	"CREATE INDEX aliases_pos ON aliases(parent,id);"
	"CREATE INDEX aliases_target ON aliases(target);"
	"CREATE TABLE xattrs_big(ino INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,"
	" PRIMARY KEY(ino,name));"
	TAGS_DDL
	"CREATE TABLE versions(ino INTEGER NOT NULL, data INTEGER NOT NULL, path TEXT, store INTEGER NOT NULL,"
	" bucket TEXT, key TEXT, version TEXT, size INTEGER NOT NULL, obj_len INTEGER NOT NULL,"
	" mtime INTEGER NOT NULL, replaced INTEGER NOT NULL, until INTEGER NOT NULL, mode INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, writer INTEGER NOT NULL, etag TEXT, slices BLOB, inline BLOB,"
	" PRIMARY KEY(ino,data)) WITHOUT ROWID;"
	"CREATE INDEX versions_path ON versions(path);"
	"CREATE INDEX versions_until ON versions(until);"
	"CREATE TABLE dropped(id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, store INTEGER NOT NULL, bucket TEXT,"
	" key TEXT, version TEXT, at INTEGER NOT NULL, doc_id INTEGER NOT NULL DEFAULT 0);"
	"CREATE TABLE jobs(kind INTEGER NOT NULL, key TEXT NOT NULL, ino INTEGER NOT NULL, due INTEGER NOT NULL,"
	" token INTEGER NOT NULL, tries INTEGER NOT NULL, PRIMARY KEY(kind,key,ino)) WITHOUT ROWID;"
	"CREATE INDEX jobs_due ON jobs(due);"
	"CREATE TABLE sessions(id INTEGER PRIMARY KEY, host TEXT, mountpoint TEXT, pid INTEGER NOT NULL,"
	" started INTEGER NOT NULL, heartbeat INTEGER NOT NULL, closed INTEGER NOT NULL);"
	"CREATE TABLE volume(one INTEGER PRIMARY KEY CHECK(one=1), schema INTEGER NOT NULL, uuid TEXT NOT NULL,"
	" created INTEGER NOT NULL, formatted INTEGER NOT NULL, next_ino INTEGER NOT NULL);"
	"INSERT INTO volume VALUES(1,0,'',0,0,1000);" CELLS_DDL FIELDS_DDL
	/* Made now, used by later versions of the program. (ops: see sqlite_ring.h) */
	"CREATE TABLE ops(session INTEGER NOT NULL, slot INTEGER NOT NULL, number INTEGER NOT NULL,"
	" PRIMARY KEY(session,slot)) WITHOUT ROWID;"
	"CREATE TABLE rules(id INTEGER PRIMARY KEY, rule TEXT NOT NULL);"
	"CREATE TABLE failures(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, ino INTEGER NOT NULL, text TEXT NOT NULL);";

const char *const sqlite_sql[SQL_N] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_DATA_VERSION] = "PRAGMA data_version",

	/* One statement sees one state of the database, so a record on its way to the trash is in one of the two. */
	[SQL_GET] = SELECT_FILE "WHERE ino=?1 UNION ALL " SELECT_TRASH "WHERE ino=?1",
	[SQL_LOOKUP] = "SELECT " COLUMNS ",NULL,0,NULL,0,NULL FROM files WHERE parent=?1 AND name=?2"
		       " UNION ALL SELECT " FILE_COLUMNS ",NULL,0,NULL,0,a.id FROM aliases a CROSS JOIN files f"
		       " ON f.ino=a.target WHERE a.parent=?1 AND a.name=?2",
	/* Both halves come from an index in order of pos, so SQLite merges them and stops at the limit. */
	[SQL_LIST] = "SELECT ino,parent,name,pos,mode" ATTR_COLUMNS(AS_COLUMN) " FROM files WHERE parent=?1 AND pos>?2"
		     " UNION ALL SELECT f.ino,a.parent,a.name,a.id,f.mode" ATTR_COLUMNS(AS_FILE)
		     " FROM aliases a CROSS JOIN files f ON f.ino=a.target WHERE a.parent=?1 AND a.id>?2"
		     " ORDER BY 4 LIMIT ?3",
	[SQL_ALIASES] = "SELECT id,parent,name,target FROM aliases WHERE target=?1 ORDER BY id",
	[SQL_QUERY_FILES] = SELECT_FILE "WHERE ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_QUERY_FILES_KEY] = SELECT_FILE "WHERE key=?3 AND bucket IS ?4 AND (NOT ?5 OR todo<>0) AND ino>?1"
					    " ORDER BY ino LIMIT ?2",
	/* By the index of those that have some, however SQLite guesses: they are few, the files many. */
	[SQL_QUERY_FILES_TODO] = SELECT_FILE "INDEXED BY files_todo WHERE todo<>0 AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_QUERY_FILES_TODO_BEFORE] = SELECT_FILE "INDEXED BY files_todo WHERE todo<>0 AND todo<=?1"
						    " ORDER BY todo,ino LIMIT ?2",
	[SQL_QUERY_FILES_LABEL] = SELECT_FILE "WHERE " LABELLED " AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_QUERY_TRASH_LABEL] = SELECT_TRASH "WHERE " LABELLED " AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_QUERY_FILES_ACL] = SELECT_FILE "WHERE " WITH_ACL " AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_QUERY_TRASH_ACL] = SELECT_TRASH "WHERE " WITH_ACL " AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_QUERY_TRASH] = SELECT_TRASH "WHERE ino>?1 AND (NOT ?5 OR todo<>0) ORDER BY ino LIMIT ?2",
	[SQL_QUERY_TRASH_KEY] = SELECT_TRASH "WHERE key=?3 AND bucket IS ?4 AND (NOT ?5 OR todo<>0) AND ino>?1"
					     " ORDER BY ino LIMIT ?2",
	[SQL_COUNT] = "SELECT count(*),coalesce(sum(size),0) FROM files",
	[SQL_TODO_COUNT] = "SELECT count(*),coalesce(sum(inline_len),0) FROM files INDEXED BY files_todo WHERE todo<>0",
	[SQL_CONTENTS_GET] = "SELECT inline,slices FROM contents WHERE ino=?1",
	[SQL_CONTENTS_PUT] = "INSERT OR REPLACE INTO contents(ino,inline,slices) VALUES(?1,?2,?3)",
	[SQL_CONTENTS_DELETE] = "DELETE FROM contents WHERE ino=?1",

	[SQL_FILE_INSERT] = "INSERT INTO files(" COLUMNS ") VALUES(" PARAMS ")",
	[SQL_FILE_TAKEN] = "SELECT EXISTS(SELECT 1 FROM aliases WHERE parent=?2 AND name=?3)"
			   " OR EXISTS(SELECT 1 FROM aliases WHERE id=?1) OR EXISTS(SELECT 1 FROM trash WHERE ino=?1)",
	/* Three, because SQLite rewrites the entries of every index that has a column in the list. */
	[SQL_FILE_UPDATE_ATTR] = "UPDATE files SET mode=?5" ATTR_COLUMNS(AS_SET) " WHERE ino=?1",
	[SQL_FILE_UPDATE_BODY] = "UPDATE files SET mode=?5" ATTR_COLUMNS(AS_SET) BODY_COLUMNS(AS_SET) " WHERE ino=?1",
	[SQL_FILE_UPDATE_PLACE] = "UPDATE files SET mode=?5" ATTR_COLUMNS(AS_SET) BODY_COLUMNS(AS_SET)
				  PLACE_COLUMNS(AS_SET) " WHERE ino=?1",
	[SQL_FILE_DELETE] = "DELETE FROM files WHERE ino=?1",
	[SQL_FILE_TOUCH] = "UPDATE files SET mtime=?2,ctime=?2,ver=ver+1,children=max(0,children+?3),"
			   "nlink=max(1,nlink+?5)"
			   " WHERE ino=?1 AND (?4=0 OR dying=0)",
	[SQL_FILE_DYING] = "SELECT dying FROM files WHERE ino=?1",
	[SQL_FILE_PARENT] = "SELECT parent FROM files WHERE ino=?1",
	[SQL_TRASH_INSERT] = "INSERT INTO trash(" COLUMNS TRASH_COLUMNS(AS_COLUMN) ") VALUES(" PARAMS
			     TRASH_COLUMNS(AS_PARAM) ")",
	[SQL_TRASH_UPDATE] = "UPDATE trash SET mode=?5" ATTR_COLUMNS(AS_SET) BODY_COLUMNS(AS_SET) ",openers=?44"
			     " WHERE ino=?1",
	[SQL_TRASH_DELETE] = "DELETE FROM trash WHERE ino=?1",
	[SQL_HAS_CHILD] = "SELECT EXISTS(SELECT 1 FROM files WHERE parent=?1)"
			  " OR EXISTS(SELECT 1 FROM aliases WHERE parent=?1)",
	[SQL_XATTR_BIG_GET] = "SELECT value FROM xattrs_big WHERE ino=?1 AND name=?2",
	[SQL_XATTR_BIG_PUT] = "INSERT OR REPLACE INTO xattrs_big(ino,name,value) VALUES(?1,?2,?3)",
	[SQL_XATTR_BIG_DELETE] = "DELETE FROM xattrs_big WHERE ino=?1",
	[SQL_TAG_PUT] = "INSERT OR REPLACE INTO tags(k,v,ino,bare,num) VALUES(?1,?2,?3,?4,?5)",
	[SQL_TAG_DELETE] = "DELETE FROM tags WHERE k=?1 AND v=?2 AND ino=?3 AND bare=?4",
	[SQL_NEXT_WITH_XATTRS] = "SELECT ino FROM files WHERE ino>?1 AND xattrs IS NOT NULL ORDER BY ino LIMIT 1",

	[SQL_FIND_TAG] = "SELECT DISTINCT ino FROM tags INDEXED BY tags_ino WHERE k=?3 AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_FIND_TAG_VALUE] = "SELECT ino FROM tags WHERE k=?3 AND v=?4 AND v=?5 AND ino>?1 AND NOT bare ORDER BY ino LIMIT ?2",
	[SQL_FIND_TAG_VALUES] = "SELECT DISTINCT ino FROM tags NOT INDEXED WHERE k=?3 AND v>=?4 AND v<=?5 AND ino>?1"
				" AND NOT bare ORDER BY ino LIMIT ?2",
	[SQL_FIND_TAG_NUMBERS] = "SELECT DISTINCT ino FROM tags INDEXED BY tags_num WHERE k=?3 AND num>=?4 AND num<=?5"
				 " AND num IS NOT NULL AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_FIND_HASH] = "SELECT ino FROM files INDEXED BY files_hash WHERE hash IS NOT NULL AND hash>=?4 AND hash<=?5"
			  " AND ino>?1 ORDER BY ino LIMIT ?2",
	[SQL_FIND_MTIME] = FIND_BY("mtime"),
	[SQL_FIND_BTIME] = FIND_BY("btime"),
	[SQL_FIND_SIZE] = FIND_BY("size"),
	[SQL_SCAN_MTIME] = SCAN_BY("mtime"),
	[SQL_SCAN_BTIME] = SCAN_BY("btime"),
	[SQL_SCAN_SIZE] = SCAN_BY("size"),
	[SQL_COUNT_TAG] = "SELECT count(*) FROM (SELECT 1 FROM tags INDEXED BY tags_ino WHERE k=?2 LIMIT ?1)",
	[SQL_COUNT_TAG_VALUES] = "SELECT count(*) FROM (SELECT 1 FROM tags NOT INDEXED WHERE k=?2 AND v>=?3 AND v<=?4 LIMIT ?1)",
	[SQL_COUNT_TAG_NUMBERS] = "SELECT count(*) FROM (SELECT 1 FROM tags INDEXED BY tags_num WHERE k=?2 AND num>=?3 AND num<=?4"
				  " AND num IS NOT NULL LIMIT ?1)",
	[SQL_COUNT_MTIME] = COUNT_BY("mtime"),
	[SQL_COUNT_BTIME] = COUNT_BY("btime"),
	[SQL_COUNT_SIZE] = COUNT_BY("size"),
	/* From one name to the next: as many seeks as there are names. */
	[SQL_TAG_NAMES] = "WITH RECURSIVE n(k) AS (SELECT min(k) FROM tags WHERE ?1 IS NULL OR k>?1 UNION ALL"
			  " SELECT (SELECT min(k) FROM tags WHERE k>n.k) FROM n WHERE n.k IS NOT NULL)"
			  " SELECT k FROM n WHERE k IS NOT NULL LIMIT ?2",
	[SQL_TAG_VALUES] = "WITH RECURSIVE n(v) AS (SELECT min(v) FROM tags WHERE k=?3 AND NOT bare AND (?1 IS NULL OR v>?1) UNION ALL"
			   " SELECT (SELECT min(v) FROM tags WHERE k=?3 AND NOT bare AND v>n.v) FROM n WHERE n.v IS NOT NULL)"
			   " SELECT v FROM n WHERE v IS NOT NULL LIMIT ?2",

	[SQL_ALIAS_GET] = "SELECT id,parent,name,target FROM aliases WHERE id=?1",
	[SQL_ALIAS_TAKEN] = "SELECT EXISTS(SELECT 1 FROM files WHERE parent=?2 AND name=?3)"
			    " OR EXISTS(SELECT 1 FROM files WHERE ino=?1) OR EXISTS(SELECT 1 FROM trash WHERE ino=?1)",
	[SQL_ALIAS_INSERT] = "INSERT INTO aliases(id,parent,name,target) VALUES(?1,?2,?3,?4)",
	[SQL_ALIAS_UPDATE] = "UPDATE aliases SET parent=?2,name=?3 WHERE id=?1",
	[SQL_ALIAS_DELETE] = "DELETE FROM aliases WHERE id=?1",

	[SQL_RESERVE] = "UPDATE volume SET next_ino=next_ino+?1 RETURNING next_ino-?1",

	[SQL_VERSION_PUT] = "INSERT OR REPLACE INTO versions(ino,data,path,store,bucket,key,version,size,obj_len,mtime,"
			    "replaced,until,mode,uid,gid,writer,etag,slices,inline)"
			    " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)",
	[SQL_VERSION_DELETE] = "DELETE FROM versions WHERE ino=?1 AND data=?2",
	[SQL_VERSIONS_BY_PATH] = SELECT_VERSION "WHERE path=?1 ORDER BY replaced DESC, data DESC",
	[SQL_VERSIONS_BY_INO] = SELECT_VERSION "WHERE ino=?1 ORDER BY data DESC",
	[SQL_VERSIONS_EXPIRED] = SELECT_VERSION "WHERE until<=?1 LIMIT ?2",
	[SQL_VERSIONS_ALL] = SELECT_VERSION "WHERE (ino,data)>(?1,?2) ORDER BY ino,data LIMIT ?3",
	[SQL_TRASH_BY_PATH] = SELECT_TRASH "WHERE trash_path=?1 ORDER BY trash_time DESC, ino DESC",
	[SQL_TRASH_BEFORE] = SELECT_TRASH "WHERE trash_time<?1 ORDER BY trash_time, ino LIMIT ?2",
	[SQL_DROPPED_PUT] = "INSERT OR REPLACE INTO dropped(id,ino,store,bucket,key,version,at,doc_id)"
			    " VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
	[SQL_DROPPED_DELETE] = "DELETE FROM dropped WHERE id=?1",
	[SQL_DROPPED_LIST] = "SELECT id,ino,store,bucket,key,version,at,doc_id FROM dropped WHERE id>?2 AND at<?1"
			     " ORDER BY id LIMIT ?3",
	[SQL_JOB_PUT] = "INSERT INTO jobs(kind,key,ino,due,token,tries) VALUES(?1,?2,?3,?4,?5,?6)"
			" ON CONFLICT(kind,key,ino) DO UPDATE SET due=min(due,excluded.due),token=excluded.token,"
			"tries=excluded.tries",
	[SQL_JOB_DELETE] = "DELETE FROM jobs WHERE kind=?1 AND key=?2 AND ino=?3 AND token=?4",
	[SQL_JOBS] = "SELECT kind,key,ino,due,token,tries FROM jobs WHERE due<=?1 ORDER BY due LIMIT ?2",
	[SQL_JOBS_COUNT] = "SELECT count(*) FROM jobs",
	[SQL_SLICES_PUT] = "INSERT OR REPLACE INTO slices(ino,id,session,blob) VALUES(?1,?2,?3,?4)",
	[SQL_SLICES_DELETE] = "DELETE FROM slices WHERE ino=?1 AND id=?2",
	[SQL_SLICES_GET] = "SELECT blob FROM slices WHERE ino=?1 AND id=?2",
	[SQL_SLICES_ALL] = "SELECT ino,id,session,blob FROM slices WHERE (ino,id)>(?1,?2) ORDER BY ino,id LIMIT ?3",
	[SQL_SESSION_PUT] = "INSERT OR REPLACE INTO sessions(id,host,mountpoint,pid,started,heartbeat,closed)"
			    " VALUES(?1,?2,?3,?4,?5,?6,?7)",
	[SQL_SESSION_DELETE] = "DELETE FROM sessions WHERE id=?1",
	[SQL_SESSIONS] = "SELECT id,host,mountpoint,pid,started,heartbeat,closed FROM sessions ORDER BY id",
	[SQL_NEXT_NUMBER] = "SELECT next_ino FROM volume",
	[SQL_ALIASES_ALL] = "SELECT id,parent,name,target FROM aliases WHERE id>?1 ORDER BY id LIMIT ?2",
	[SQL_JOBS_FROM] = "SELECT kind,key,ino,due,token,tries FROM jobs WHERE (kind,key,ino)>=(?1,?2,?3)"
			  " ORDER BY kind,key,ino LIMIT ?4",
	[SQL_CELL_GET] = "SELECT name,token,value FROM cells WHERE name=?1",
	[SQL_CELLS] = "SELECT name,token,value FROM cells WHERE name>=?1 AND name>?2 ORDER BY name LIMIT ?3",
	[SQL_CELL_PUT] = "INSERT OR REPLACE INTO cells(name,token,value) VALUES(?1,?2,?3)",
	[SQL_CELL_DELETE] = "DELETE FROM cells WHERE name=?1",
	[SQL_VOLUME_GET] = "SELECT schema,uuid,created FROM volume WHERE formatted",
	[SQL_VOLUME_PUT] = "UPDATE volume SET schema=?1,uuid=?2,created=?3,formatted=1",
};
