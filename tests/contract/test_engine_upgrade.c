/*
 * massfs upgrade: a database made by the tables of schema 1, as they were then, becomes one of today's, with all that
 * is in it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "common/op_ctx.h"
#include "meta/engine.h"
#include "meta/sqlite_sql.h"

#define OK(expr) assert_int_equal((expr), 0)

/* What massfs 0.1 made. Never to be changed. */
static const char schema_1[] =
	"CREATE TABLE files(ino INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT, pos INTEGER NOT "
	"NULL, mode INTEGER NOT NULL,uid INTEGER NOT NULL, gid INTEGER NOT NULL, nlink INTEGER NOT NULL, "
	"rdev INTEGER NOT NULL,size INTEGER NOT NULL, obj_len INTEGER NOT NULL, alloc INTEGER NOT NULL, "
	"atime INTEGER NOT NULL,mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, btime INTEGER NOT NULL, "
	"ver INTEGER NOT NULL,data INTEGER NOT NULL, lay INTEGER NOT NULL, flags INTEGER NOT NULL, "
	"children INTEGER NOT NULL,dying INTEGER NOT NULL, store INTEGER NOT NULL, bucket TEXT, key TEXT,"
	" version TEXT, etag TEXT,hash TEXT, symlink TEXT, xattrs BLOB, creator_uid INTEGER NOT NULL, "
	"creator_user TEXT,creator_host TEXT, mime TEXT, todo INTEGER NOT NULL, pending INTEGER NOT NULL,"
	" quota INTEGER NOT NULL,fenced BLOB, inline BLOB, slices BLOB, holes BLOB,type TEXT GENERATED "
	"ALWAYS AS (CASE mode>>12 WHEN 8 THEN 'file' WHEN 4 THEN 'dir' WHEN 10 THEN 'symlink' WHEN 1 THEN"
	" 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'char' WHEN 6 THEN 'block' END) VIRTUAL);"
	"CREATE UNIQUE INDEX files_name ON files(parent,name);"
	"CREATE INDEX files_pos ON files(parent,pos);"
	"CREATE INDEX files_key ON files(key) WHERE key IS NOT NULL;"
	"CREATE INDEX files_todo ON files(ino) WHERE todo<>0;"
	"CREATE INDEX files_label ON files(ino) WHERE flags&64;"
	"CREATE TABLE trash(ino INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT, pos INTEGER NOT "
	"NULL, mode INTEGER NOT NULL,uid INTEGER NOT NULL, gid INTEGER NOT NULL, nlink INTEGER NOT NULL, "
	"rdev INTEGER NOT NULL,size INTEGER NOT NULL, obj_len INTEGER NOT NULL, alloc INTEGER NOT NULL, "
	"atime INTEGER NOT NULL,mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, btime INTEGER NOT NULL, "
	"ver INTEGER NOT NULL,data INTEGER NOT NULL, lay INTEGER NOT NULL, flags INTEGER NOT NULL, "
	"children INTEGER NOT NULL,dying INTEGER NOT NULL, store INTEGER NOT NULL, bucket TEXT, key TEXT,"
	" version TEXT, etag TEXT,hash TEXT, symlink TEXT, xattrs BLOB, creator_uid INTEGER NOT NULL, "
	"creator_user TEXT,creator_host TEXT, mime TEXT, todo INTEGER NOT NULL, pending INTEGER NOT NULL,"
	" quota INTEGER NOT NULL,fenced BLOB, inline BLOB, slices BLOB, holes BLOB,type TEXT GENERATED "
	"ALWAYS AS (CASE mode>>12 WHEN 8 THEN 'file' WHEN 4 THEN 'dir' WHEN 10 THEN 'symlink' WHEN 1 THEN"
	" 'fifo' WHEN 12 THEN 'socket' WHEN 2 THEN 'char' WHEN 6 THEN 'block' END) VIRTUAL, trash_path "
	"TEXT, trash_time INTEGER NOT NULL, openers BLOB);"
	"CREATE INDEX trash_by_path ON trash(trash_path);"
	"CREATE INDEX trash_by_time ON trash(trash_time);"
	"CREATE INDEX trash_label ON trash(ino) WHERE flags&64;"
	"CREATE TABLE aliases(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name TEXT NOT NULL, target"
	" INTEGER NOT NULL);"
	"CREATE UNIQUE INDEX aliases_name ON aliases(parent,name);"
	"CREATE INDEX aliases_pos ON aliases(parent,id);"
	"CREATE INDEX aliases_target ON aliases(target);"
	"CREATE TABLE xattrs_big(ino INTEGER NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, PRIMARY "
	"KEY(ino,name));"
	"CREATE TABLE tags(ino INTEGER NOT NULL, k TEXT NOT NULL, v TEXT NOT NULL, PRIMARY KEY(ino,k)) "
	"WITHOUT ROWID;"
	"CREATE INDEX tags_kv ON tags(k,v);"
	"CREATE TABLE versions(ino INTEGER NOT NULL, data INTEGER NOT NULL, path TEXT, store INTEGER NOT "
	"NULL, bucket TEXT, key TEXT, version TEXT, size INTEGER NOT NULL, obj_len INTEGER NOT NULL, "
	"mtime INTEGER NOT NULL, replaced INTEGER NOT NULL, until INTEGER NOT NULL, mode INTEGER NOT "
	"NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, writer INTEGER NOT NULL, PRIMARY "
	"KEY(ino,data)) WITHOUT ROWID;"
	"CREATE INDEX versions_path ON versions(path);"
	"CREATE INDEX versions_until ON versions(until);"
	"CREATE TABLE dropped(id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, store INTEGER NOT NULL, "
	"bucket TEXT, key TEXT, version TEXT, at INTEGER NOT NULL);"
	"CREATE TABLE jobs(kind INTEGER NOT NULL, key TEXT NOT NULL, ino INTEGER NOT NULL, due INTEGER "
	"NOT NULL, token INTEGER NOT NULL, tries INTEGER NOT NULL, PRIMARY KEY(kind,key,ino)) WITHOUT "
	"ROWID;"
	"CREATE INDEX jobs_due ON jobs(due);"
	"CREATE TABLE sessions(id INTEGER PRIMARY KEY, host TEXT, mountpoint TEXT, pid INTEGER NOT NULL, "
	"started INTEGER NOT NULL, heartbeat INTEGER NOT NULL, closed INTEGER NOT NULL);"
	"CREATE TABLE volume(one INTEGER PRIMARY KEY CHECK(one=1), schema INTEGER NOT NULL, uuid TEXT NOT"
	" NULL, created INTEGER NOT NULL, formatted INTEGER NOT NULL, next_ino INTEGER NOT NULL);"
	"INSERT INTO volume VALUES(1,0,'',0,0,1000);"
	"CREATE TABLE ops(session INTEGER NOT NULL, slot INTEGER NOT NULL, number INTEGER NOT NULL, "
	"PRIMARY KEY(session,slot)) WITHOUT ROWID;"
	"CREATE TABLE slices(id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, slices BLOB NOT NULL);"
	"CREATE TABLE shared(store INTEGER NOT NULL, bucket TEXT, key TEXT NOT NULL, version TEXT NOT "
	"NULL, count INTEGER NOT NULL, PRIMARY KEY(key,version,bucket,store));"
	"CREATE TABLE locks(ino INTEGER PRIMARY KEY, locks BLOB NOT NULL);"
	"CREATE TABLE rules(id INTEGER PRIMARY KEY, rule TEXT NOT NULL);"
	"CREATE TABLE failures(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, ino INTEGER NOT NULL, text "
	"TEXT NOT NULL);";

static const char rows[] =
	"PRAGMA application_id=1835099763; PRAGMA user_version=1; PRAGMA journal_mode=WAL;"
	"UPDATE volume SET schema=1,uuid='11111111-2222-3333-4444-555555555555',created=42,formatted=1,next_ino=2000;"
	"INSERT INTO files(ino,parent,name,pos,mode,uid,gid,nlink,rdev,size,obj_len,alloc,atime,mtime,ctime,btime,ver,data,lay,"
	"flags,children,dying,store,bucket,key,version,etag,creator_uid,todo,pending,quota) VALUES"
	"(1,0,NULL,0,16877,0,0,1,0,0,0,0,1,2,3,4,1,0,0,0,2,0,0,NULL,NULL,NULL,NULL,0,0,0,0),"
	"(1000,1,'one',1000,33188,5,6,2,0,70,60,4096,1,2,3,4,9,8,7,0,0,0,0,NULL,'one','v-1','e',5,0,0,0),"
	"(1001,1,'due',1001,33188,5,6,1,0,0,0,0,1,2,3,4,1,1,1,0,0,0,0,NULL,NULL,NULL,NULL,5,77,0,0);"
	/* user.k = 7, user.xdg.tags = a, b */
	"UPDATE files SET xattrs=x'060001000000757365722e6b37' || x'0d0004000000757365722e7864672e7461677361' || x'2c2062'"
	" WHERE ino=1000; UPDATE files SET xattrs=CAST(xattrs AS BLOB);"
	"INSERT INTO tags VALUES(1000,'k','7'); INSERT INTO tags VALUES(1000,'xdg.tags','a, b');"
	"INSERT INTO trash(ino,parent,name,pos,mode,uid,gid,nlink,rdev,size,obj_len,alloc,atime,mtime,ctime,btime,ver,data,lay,"
	"flags,children,dying,store,bucket,key,version,etag,creator_uid,todo,pending,quota,trash_path,trash_time) VALUES"
	"(1002,0,NULL,1002,33188,5,6,0,0,5,5,4096,1,2,3,4,2,2,2,16,0,0,0,NULL,'gone','v-2','',5,0,0,0,'gone',50);"
	"INSERT INTO aliases VALUES(1003,1,'two',1000);"
	"INSERT INTO versions VALUES(1000,7,'one',0,NULL,'one','v-0',50,50,1,60,9000,33188,5,6,5);"
	"INSERT INTO dropped VALUES(1004,1000,0,NULL,'one','v-x',61);"
	"INSERT INTO jobs VALUES(1,'one',0,62,5,0);"
	"INSERT INTO sessions VALUES(1005,'host','/mnt',4,63,64,65);";

struct world {
	char dir[64];
	char path[96];
};

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%.100s: %s", sql, message);
	sqlite3_close(db);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	strcpy(w->dir, "/tmp/massfs-upgrade-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/index.db", w->dir);
	run_sql(w->path, schema_1);
	run_sql(w->path, rows);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "index.db", "index.db-wal", "index.db-shm", "new.db", "new.db-wal", "new.db-shm" };
	struct world *w = *state;
	char path[128];

	for (size_t i = 0; i < MFS_ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
		(void)unlink(path);
	}
	OK(rmdir(w->dir));
	free(w);
	return 0;
}

static int open_at(const char *path, struct engine **ret)
{
	const struct sqlite_options opt = { .nosync = true };

	return sqlite_engine_open(path, &opt, ret);
}

static void on_fault(void *arg, const char *text)
{
	print_message("%s\n", text);
	++*(int *)arg;
}

static void check_records(struct engine *e)
{
	const struct query q = { .todo = true, .todo_before = 100, .limit = 10 };
	struct mfs_name two = { .len = 3, .bytes = "two" };
	struct node_list l = NODE_LIST_INIT;
	struct node n = NODE_INIT;
	struct entry found;

	OK(engine_get(e, NULL, 1000, &n));
	assert_int_equal(n.attr.size, 70);
	assert_int_equal(n.attr.lay, 7);
	assert_string_equal(n.ref.version, "v-1");
	assert_string_equal(n.etag, "e");
	assert_true(!n.inline_data.data && !n.slices.data);
	node_release(&n);
	OK(engine_lookup(e, NULL, 1, &two, &found));
	assert_int_equal(found.node.attr.ino, 1000);
	entry_release(&found);
	OK(engine_get(e, NULL, 1002, &n));
	assert_string_equal(n.trash_path, "gone");
	node_release(&n);
	OK(engine_query(e, NULL, &q, &l));
	assert_int_equal(l.n, 1);
	assert_int_equal(l.v[0].attr.ino, 1001);
	node_list_release(&l);
}

static void check_tag(struct engine *e, const char *text)
{
	const struct expr_env env = { .now = 0 };
	MFS_AUTOFREE char *reason = NULL;
	MFS_AUTOEXPR struct expr *x = NULL;
	struct node_list l = NODE_LIST_INIT;
	size_t column;

	OK(expr_parse(text, strlen(text), &env, &x, &column, &reason));
	OK(engine_find(e, NULL, &x->terms[x->root], 0, 10, &l));
	if (l.n != 1 || l.v[0].attr.ino != 1000)
		fail_msg("%s: %zu", text, l.n);
	node_list_release(&l);
}

static void check_tags(struct engine *e)
{
	check_tag(e, "k = 7");
	check_tag(e, "k > 6.5");
	check_tag(e, "a");
	check_tag(e, "b");
	check_tag(e, "size = 70");
}

static void check_side(struct engine *e)
{
	struct volume_record volume;
	struct version_list v = { 0 };
	struct dropped_list d = { 0 };
	struct job_list j = { 0 };
	struct session_list s = { 0 };

	OK(engine_volume_get(e, NULL, &volume));
	assert_int_equal(volume.schema, MFS_SCHEMA);
	assert_string_equal(volume.uuid, "11111111-2222-3333-4444-555555555555");
	OK(engine_versions_by_ino(e, NULL, 1000, &v));
	assert_int_equal(v.n, 1);
	assert_string_equal(v.v[0].ref.version, "v-0");
	assert_true(!v.v[0].etag[0] && !v.v[0].slices.data && !v.v[0].inline_data.data);
	OK(engine_dropped(e, NULL, 100, 0, 9, &d));
	assert_int_equal(d.n, 1);
	assert_string_equal(d.v[0].ref.version, "v-x");
	assert_int_equal(d.v[0].doc_id, 0);
	OK(engine_jobs(e, NULL, 100, 9, &j));
	assert_int_equal(j.n, 1);
	OK(engine_sessions(e, NULL, &s));
	assert_int_equal(s.n, 1);
	version_list_release(&v);
	dropped_list_release(&d);
	job_list_release(&j);
	session_list_release(&s);
}

static void it_keeps_everything(void **state)
{
	struct world *w = *state;
	struct engine *e = NULL;
	int faults = 0;
	uint32_t from = 0;

	assert_int_equal(open_at(w->path, &e), -EPROTO);
	OK(sqlite_engine_upgrade(w->path, &from));
	assert_int_equal(from, 1);
	OK(open_at(w->path, &e));
	check_records(e);
	check_tags(e);
	check_side(e);
	OK(engine_check(e, NULL, on_fault, &faults));
	assert_int_equal(faults, 0);
	engine_free(e);
	OK(sqlite_engine_upgrade(w->path, &from)); /* again: nothing */
	assert_int_equal(from, MFS_SCHEMA);
}

static void what_is_new_works(void **state)
{
	struct world *w = *state;
	struct node_blob b = { .data = (char *)(uintptr_t) "bytes", .size = 5 };
	const struct slices_doc_record doc = { .ino = 1000, .id = 5, .session = 1, .blob = b };
	const struct dropped_record gone = { .ino = 1000, .doc_id = 4 };
	struct change c = { 0 };
	struct node set = { .slices = b }, n = NODE_INIT;
	char name[] = "shared/x";
	struct cell_record cell;
	uint64_t records, bytes;
	struct engine *e = NULL;
	struct write *write;
	uint32_t from = 0;

	OK(sqlite_engine_upgrade(w->path, &from));
	OK(open_at(w->path, &e));
	write = change_write(&c, WRITE_EDIT, 1000);
	write->node = &set;
	write->mask = EDIT_REF;
	change_write(&c, WRITE_SLICES_PUT, 0)->slices = &doc;
	change_write(&c, WRITE_DROPPED_PUT, 0)->dropped = &gone;
	OK(engine_apply(e, NULL, &c));
	OK(engine_get(e, NULL, 1000, &n));
	assert_int_equal(n.slices.size, 5);
	node_release(&n);
	OK(engine_todo_count(e, NULL, &records, &bytes));
	assert_int_equal(records, 1);
	c = (struct change){ 0 };
	change_write(&c, WRITE_CELL_PUT, 0)->cell = &(const struct cell_record){ .name = name, .token = 3, .blob = b };
	OK(engine_apply(e, NULL, &c));
	OK(engine_cell_get(e, NULL, name, &cell));
	assert_int_equal(cell.token, 3);
	cell_record_release(&cell);
	engine_free(e);
}

/* All tables, columns and indexes, as one text. Without types: a renamed column keeps the one it had, which SQLite does not
 * hold it to. */
static char *shape(const char *path)
{
	static const char sql[] = "SELECT group_concat(m.type||' '||m.name||' '||coalesce((SELECT group_concat(x.name||' '||"
				  "x.\"notnull\"||x.pk) FROM pragma_table_xinfo(m.name) x),'')||coalesce((SELECT"
				  " group_concat(i.seqno||coalesce(i.name,'')) FROM pragma_index_info(m.name) i),''),char(10))"
				  " FROM (SELECT * FROM sqlite_schema ORDER BY type,name) m";
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	char *text;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	text = strdup((const char *)sqlite3_column_text(st, 0));
	assert_non_null(text);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return text;
}

static void it_has_the_tables_of_a_new_one(void **state)
{
	const struct sqlite_options opt = { .create = true, .nosync = true };
	struct world *w = *state;
	struct engine *e = NULL;
	char path[128], *a, *b;
	uint32_t from = 0;

	OK(sqlite_engine_upgrade(w->path, &from));
	snprintf(path, sizeof(path), "%s/new.db", w->dir);
	OK(sqlite_engine_open(path, &opt, &e));
	engine_free(e);
	a = shape(w->path);
	b = shape(path);
	assert_true(strstr(a, "inline_len") && strstr(a, "files_todo"));
	assert_string_equal(a, b);
	free(a);
	free(b);
}

/* Not the old one and not the new one: a step that cannot be made takes back those before it. */
static void it_fails_as_a_whole(void **state)
{
	struct world *w = *state;
	char *before, *after;
	uint32_t from = 99;

	run_sql(w->path, "DROP TABLE slices"); /* the last but one of the steps misses it */
	before = shape(w->path);
	assert_int_equal(sqlite_engine_upgrade(w->path, &from), -EUCLEAN);
	assert_int_equal(from, 99);
	after = shape(w->path);
	assert_string_equal(before, after);
	free(before);
	free(after);
}

static void it_refuses_what_it_must(void **state)
{
	struct world *w = *state;
	struct engine *e = NULL;
	uint32_t from = 99;
	char path[128];

	snprintf(path, sizeof(path), "%s/new.db", w->dir);
	assert_int_equal(sqlite_engine_upgrade(path, &from), -ENOENT);
	run_sql(path, "CREATE TABLE files(a)");
	assert_int_equal(sqlite_engine_upgrade(path, &from), -EUCLEAN);
	run_sql(w->path, "PRAGMA user_version=99");
	assert_int_equal(sqlite_engine_upgrade(w->path, &from), -EPROTONOSUPPORT);
	run_sql(w->path, "PRAGMA user_version=1");
	assert_int_equal(from, 99);
	OK(sqlite_engine_upgrade(w->path, &from));
	OK(open_at(w->path, &e));
	engine_free(e);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(it_keeps_everything), T(what_is_new_works), T(it_has_the_tables_of_a_new_one), T(it_fails_as_a_whole),
		T(it_refuses_what_it_must),
	};

	return cmocka_run_group_tests_name("upgrade", tests, NULL, NULL);
}
