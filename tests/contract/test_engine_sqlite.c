/*
 * What only the sqlite engine promises: which files it refuses and how, what a person finds in the database, that the
 * hot statements use their indexes.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "meta/sqlite_sql.h"
#include "tests/lib/engine_suite.h"

#define REG 0100644

static char *path_in(const struct engine_fixture *f, const char *name)
{
	char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", f->dir, name) > 0);
	return path;
}

static int open_at(const char *path, bool create, struct engine **ret)
{
	const struct sqlite_options opt = { .create = create, .nosync = true };

	return sqlite_engine_open(path, &opt, ret);
}

static int open_kind(const char *dir, void **shared, struct engine **ret)
{
	char path[4096];

	(void)shared;
	snprintf(path, sizeof(path), "%s/index.db", dir);
	return open_at(path, true, ret);
}

static const struct engine_kind kind = { .name = "sqlite", .open = open_kind, .persists = true };

/* The engine is closed, for a look at the file; the fixture is opened again by opened_again(). */
static char *closed(struct engine_fixture *f)
{
	engine_free(f->e);
	f->e = f->two = NULL;
	return path_in(f, "index.db");
}

static void opened_again(struct engine_fixture *f, char *path)
{
	TEST_OK(open_at(path, false, &f->e));
	f->two = f->e;
	free(path);
}

/* Teardown needs an engine: where the test made the file unusable, one of another file. */
static void opened_elsewhere(struct engine_fixture *f, char *path)
{
	char *other = path_in(f, "other.db");

	TEST_OK(open_at(other, true, &f->e));
	f->two = f->e;
	free(other);
	free(path);
}

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db = NULL;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	sqlite3_close(db);
}

/* All rows of a query, columns with '|' and rows with a newline between. */
static void query_text(const char *path, const char *sql, char *buf, size_t size)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;
	size_t len = 0;

	buf[0] = '\0';
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW)
		for (int i = 0; i < sqlite3_column_count(st); i++)
			len += (size_t)snprintf(buf + len, size - len, "%s%s", (const char *)sqlite3_column_text(st, i),
						i + 1 < sqlite3_column_count(st) ? "|" : "\n");
	sqlite3_finalize(st);
	sqlite3_close(db);
}

static void write_file(const char *path, const char *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static void apply_one(struct engine_fixture *f, enum write_kind how, const struct node *n, uint32_t mask)
{
	struct change c = { 0 };
	struct write *w = change_write(&c, how, n->attr.ino);

	w->node = n;
	w->mask = mask;
	TEST_OK(engine_apply(f->e, NULL, &c));
}

static void test_open__refuses_what_is_not_there(void **state)
{
	struct engine_fixture *f = *state;
	char *none = path_in(f, "none.db"), *no_dir = path_in(f, "none/index.db");
	struct engine *e = NULL;

	assert_int_equal(open_at(none, false, &e), -ENOENT);
	assert_int_equal(access(none, F_OK), -1);
	assert_int_equal(open_at(no_dir, true, &e), -ENOENT);
	assert_null(e);
	free(none);
	free(no_dir);
}

static void test_open__refuses_what_is_no_index(void **state)
{
	struct engine_fixture *f = *state;
	char *text = path_in(f, "text.db"), *empty = path_in(f, "empty.db"), *other = path_in(f, "foreign.db");
	char bytes[8192];
	struct engine *e = NULL;

	memset(bytes, 'x', sizeof(bytes));
	write_file(text, bytes, sizeof(bytes));
	assert_int_equal(open_at(text, false, &e), -EUCLEAN);
	assert_int_equal(open_at(text, true, &e), -EUCLEAN); /* create never takes a foreign file over */
	write_file(empty, "", 0);
	assert_int_equal(open_at(empty, false, &e), -EUCLEAN);
	run_sql(other, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
	assert_int_equal(open_at(other, false, &e), -EUCLEAN);
	assert_int_equal(open_at(other, true, &e), -EUCLEAN);
	free(text);
	free(empty);
	free(other);
}

static void test_open__refuses_another_schema(void **state)
{
	struct engine_fixture *f = *state;
	char *path = closed(f);
	struct engine *e = NULL;

	run_sql(path, "PRAGMA user_version=4");
	assert_int_equal(open_at(path, false, &e), -EPROTONOSUPPORT);
	run_sql(path, "PRAGMA user_version=1");
	assert_int_equal(open_at(path, false, &e), -EPROTO);
	run_sql(path, "PRAGMA user_version=0");
	assert_int_equal(open_at(path, false, &e), -EUCLEAN);
	run_sql(path, "PRAGMA user_version=3");
	opened_again(f, path);
}

static void test_open__refuses_a_damaged_index(void **state)
{
	struct engine_fixture *f = *state;
	static const char *const damage[] = { "DELETE FROM volume", "DROP TABLE volume", "DELETE FROM files WHERE ino=1",
					      "DROP TABLE files" };
	char *path, *copy = path_in(f, "copy.db"), command[8192];
	struct engine *e = NULL;
	struct stat st;

	for (int i = 0; i < 300; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		test_make(f->e, MFS_ROOT_INO, name, REG);
	}
	path = closed(f);
	snprintf(command, sizeof(command), "cp %s %s", path, copy);
	for (size_t i = 0; i < MFS_ARRAY_LEN(damage); i++) {
		TEST_OK(system(command));
		run_sql(copy, damage[i]);
		assert_int_equal(open_at(copy, false, &e), -EUCLEAN);
	}
	/* Cut short, at a page and within one. */
	assert_int_equal(stat(path, &st), 0);
	for (off_t cut = 1; cut < 6; cut++) {
		TEST_OK(system(command));
		assert_int_equal(truncate(copy, st.st_size - cut * 3000), 0);
		assert_int_equal(open_at(copy, false, &e), -EUCLEAN);
	}
	assert_null(e);
	free(copy);
	opened_again(f, path);
}

static void count_report(void *arg, const char *text)
{
	(void)text;
	++*(int *)arg;
}

/* Damage in the middle shows when it is read: as -EIO, not as a wrong answer; and in the check. */
static void test_damage__is_met_with_eio(void **state)
{
	struct engine_fixture *f = *state;
	mfs_ino_t ids[2000];
	char *path, junk[4096];
	int faults = 0, bad = 0, fd;
	struct stat st;

	for (int i = 0; i < 2000; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		ids[i] = test_make(f->e, MFS_ROOT_INO, name, REG);
	}
	path = closed(f);
	memset(junk, 0xa5, sizeof(junk));
	fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	/* Every third page from the middle on. */
	for (off_t off = st.st_size / 2 / 4096 * 4096; off + 4096 <= st.st_size; off += 3 * 4096)
		assert_int_equal(pwrite(fd, junk, sizeof(junk), off), sizeof(junk));
	close(fd);
	opened_again(f, path);
	for (int i = 0; i < 2000; i++) {
		struct node n = NODE_INIT;
		int r = engine_get(f->e, NULL, ids[i], &n);

		assert_true(r == 0 || r == -EIO || r == -ESTALE);
		if (r == 0)
			assert_int_equal(n.attr.ino, ids[i]);
		bad += r == -EIO;
		node_release(&n);
	}
	assert_true(bad > 0);
	TEST_OK(engine_check(f->e, NULL, count_report, &faults));
	assert_true(faults > 0);
}

static void test_check__finds_broken_rules(void **state)
{
	struct engine_fixture *f = *state;
	static const char *const broken[] = {
		"INSERT INTO aliases VALUES(5000,1,'ghost',4999)",
		"INSERT INTO aliases SELECT 5001,1,'a',ino FROM files WHERE name='a'",
		"UPDATE files SET parent=4711 WHERE name='b'",
		"UPDATE volume SET next_ino=1000",
		"INSERT INTO tags VALUES(x'6b',x'76',4711,0,NULL)",
		"INSERT INTO contents VALUES(4712,x'00',NULL)",
		"UPDATE files SET inline_len=5 WHERE name='a'",
	};
	char *path;

	test_make(f->e, MFS_ROOT_INO, "a", REG);
	test_make(f->e, MFS_ROOT_INO, "b", REG);
	for (size_t i = 0; i < MFS_ARRAY_LEN(broken); i++) {
		int faults = 0, before = 0;

		TEST_OK(engine_check(f->e, NULL, count_report, &before));
		path = closed(f);
		run_sql(path, broken[i]);
		opened_again(f, path);
		TEST_OK(engine_check(f->e, NULL, count_report, &faults));
		if (faults <= before)
			fail_msg("%s went unseen", broken[i]);
	}
}

/* Inline bytes that are not what the record says are an error, never other bytes. */
static void test_damage__of_contents_is_met_with_eio(void **state)
{
	struct engine_fixture *f = *state;
	static const char *const damage[] = { "UPDATE contents SET inline=x'616263'", "UPDATE contents SET inline=NULL",
					      "DELETE FROM contents" };
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG), got = NODE_INIT;
	struct mfs_name name = test_name("n");
	struct entry found;
	char *path, bytes[] = "five!";

	n.inline_data = (struct node_blob){ bytes, 5 };
	apply_one(f, WRITE_INSERT, &n, 0);
	for (size_t i = 0; i < MFS_ARRAY_LEN(damage); i++) {
		struct node_list l = NODE_LIST_INIT;

		path = closed(f);
		run_sql(path, damage[i]);
		opened_again(f, path);
		assert_int_equal(engine_get(f->e, NULL, n.attr.ino, &got), -EIO);
		assert_int_equal(engine_lookup(f->e, NULL, MFS_ROOT_INO, &name, &found), -EIO);
		/* What does not need them goes on. */
		TEST_OK(engine_list(f->e, NULL, MFS_ROOT_INO, 0, 10, &l));
		assert_int_equal(l.n, 1);
		node_list_release(&l);
	}
	/* And it can be replaced. */
	apply_one(f, WRITE_EDIT, &n, EDIT_REF);
	TEST_OK(engine_get(f->e, NULL, n.attr.ino, &got));
	assert_memory_equal(got.inline_data.data, "five!", 5);
	node_release(&got);
}

static void test_readonly__reads_and_refuses_changes(void **state)
{
	struct engine_fixture *f = *state;
	const struct sqlite_options opt = { .readonly = true };
	mfs_ino_t a = test_make(f->e, MFS_ROOT_INO, "a", REG);
	struct change c = { 0 };
	struct volume_record v;
	uint64_t n, bytes;
	char *path = closed(f);
	struct engine *e = NULL;

	TEST_OK(sqlite_engine_open(path, &opt, &e));
	assert_int_equal(test_find(e, MFS_ROOT_INO, "a"), a);
	change_touch(&c, MFS_ROOT_INO, 1, 1, 0);
	assert_int_equal(engine_apply(e, NULL, &c), -EROFS);
	assert_int_equal(engine_reserve(e, NULL, 1, &n), -EROFS);
	TEST_OK(engine_todo_count(e, NULL, &n, &bytes));
	assert_int_equal(n + bytes, 0);
	TEST_OK(engine_volume_get(e, NULL, &v));
	assert_int_equal(engine_volume_put(e, NULL, &v), -EROFS);
	TEST_OK(engine_sync(e, NULL));
	TEST_OK(engine_count(e, NULL, &n, &bytes));
	assert_int_equal(n, 2);
	engine_free(e);
	opened_again(f, path);
}

static void test_open__is_for_one_process(void **state)
{
	struct engine_fixture *f = *state;
	char *path = closed(f), c = 0;
	int go[2], status = 0;
	pid_t pid;

	assert_int_equal(pipe(go), 0);
	pid = fork(); /* nothing of SQLite is open now, so the child starts with a clean one */
	if (pid == 0) {
		struct engine *e = NULL;
		const struct sqlite_options opt = { .readonly = true };

		if (read(go[0], &c, 1) != 1)
			_exit(9);
		if (open_at(path, false, &e) != -EBUSY)
			_exit(1);
		_exit(sqlite_engine_open(path, &opt, &e) == -EBUSY ? 0 : 2);
	}
	opened_again(f, path);
	assert_int_equal(write(go[1], &c, 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	test_make(f->e, MFS_ROOT_INO, "still works", REG);
	close(go[0]);
	close(go[1]);
}

static void test_rows__are_readable(void **state)
{
	struct engine_fixture *f = *state;
	char *path, text[4096];

	test_make(f->e, MFS_ROOT_INO, "gr\xc3\xbc\xc3\x9f", REG);
	test_make(f->e, MFS_ROOT_INO, "latin \xfc", 0040755);
	test_make(f->e, MFS_ROOT_INO, "sock", 0140600);
	path = closed(f);
	query_text(path, "SELECT typeof(name),hex(name),type,parent,printf('%o',mode) FROM files WHERE ino>1 ORDER BY ino",
		   text, sizeof(text));
	assert_string_equal(text, "text|6772C3BCC39F|file|1|100644\n"
				  "blob|6C6174696E20FC|dir|1|40755\n"
				  "text|736F636B|socket|1|140600\n");
	query_text(path, "PRAGMA page_size", text, sizeof(text));
	assert_string_equal(text, "4096\n");
	query_text(path, "PRAGMA journal_mode", text, sizeof(text));
	assert_string_equal(text, "wal\n");
	opened_again(f, path);
}

static void test_tags__mirror_user_xattrs(void **state)
{
	struct engine_fixture *f = *state;
	struct node n = test_node(f->e, MFS_ROOT_INO, "n", REG);
	char *path, text[4096], longest[300], want[400];

	memset(longest, 'x', sizeof(longest));
	TEST_OK(node_xattr_set(&n, "user.colour", "red", 3));
	TEST_OK(node_xattr_set(&n, "user.long", longest, 200));
	TEST_OK(node_xattr_set(&n, "user.raw", "\xff\x01", 2));
	TEST_OK(node_xattr_set(&n, "user.DOSATTRIB", "0x20", 4));
	TEST_OK(node_xattr_set(&n, "user.DosStream.x:$DATA", "s", 1));
	TEST_OK(node_xattr_set(&n, "user.15.5", "x", 1));
	TEST_OK(node_xattr_set(&n, "user.year", "2026", 4));
	TEST_OK(node_xattr_set(&n, "user.xdg.tags", "draft, draft", 12));
	TEST_OK(node_xattr_set(&n, "trusted.no", "t", 1));
	apply_one(f, WRITE_INSERT, &n, 0);
	path = closed(f);
	query_text(path, "SELECT CAST(k AS TEXT),bare,num,CASE k WHEN CAST('raw' AS BLOB) THEN hex(v) ELSE CAST(v AS TEXT) END FROM tags ORDER BY k,v", text,
		   sizeof(text));
	snprintf(want, sizeof(want), "15.5|0|(null)|x\ncolour|0|(null)|red\ndraft|1|(null)|\nlong|0|(null)|%.128s\nraw|0|(null)|FF01\nyear|0|2026.0|2026\n", longest);
	assert_string_equal(text, want);
	opened_again(f, path);
	/* Not searched for in the trash; back with the file; replaced with the set. */
	n.trash_path = (char *)(uintptr_t) "n";
	apply_one(f, WRITE_TRASH, &n, 0);
	path = closed(f);
	query_text(path, "SELECT count(*) FROM tags", text, sizeof(text));
	assert_string_equal(text, "0\n");
	opened_again(f, path);
	apply_one(f, WRITE_UNTRASH, &n, 0);
	TEST_OK(node_xattr_remove(&n, "user.long"));
	TEST_OK(node_xattr_set(&n, "user.colour", "blue", 4));
	apply_one(f, WRITE_EDIT, &n, EDIT_XATTRS);
	path = closed(f);
	query_text(path, "SELECT CAST(k AS TEXT),hex(v) FROM tags WHERE k IN (x'636f6c6f7572',x'726177',x'6c6f6e67') ORDER BY k", text, sizeof(text));
	assert_string_equal(text, "colour|626C7565\nraw|FF01\n");
	opened_again(f, path);
	n.trash_path = NULL;
	node_release(&n);
}

/* No statement that a file operation waits for reads a whole table or sorts. */
static void test_statements__use_indexes(void **state)
{
	struct engine_fixture *f = *state;
	static const enum sql_id whole_table[] = { SQL_COUNT, SQL_JOBS_COUNT, SQL_SESSIONS, SQL_VOLUME_GET,
						   SQL_VOLUME_PUT, SQL_RESERVE, SQL_QUERY_TRASH_KEY, SQL_TODO_COUNT,
						   SQL_NEXT_NUMBER };
	char *path = closed(f);
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	for (int id = 0; id < SQL_N; id++) {
		sqlite3_stmt *st = NULL;
		char *sql = NULL;
		bool skip = false;

		assert_non_null(sqlite_sql[id]);
		for (size_t i = 0; i < MFS_ARRAY_LEN(whole_table); i++)
			skip |= whole_table[i] == (enum sql_id)id;
		skip |= id >= SQL_NEXT_WITH_XATTRS && id <= SQL_TAG_VALUES; /* searches: no file operation */
		assert_true(asprintf(&sql, "EXPLAIN QUERY PLAN %s", sqlite_sql[id]) > 0);
		assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
		while (sqlite3_step(st) == SQLITE_ROW) {
			const char *step = (const char *)sqlite3_column_text(st, 3);

			if (!skip && (strncmp(step, "SCAN", 4) == 0 || strstr(step, "TEMP B-TREE")) &&
			    !strstr(step, "CONSTANT ROW") && id != SQL_VERSIONS_BY_PATH && id != SQL_TRASH_BY_PATH &&
			    id != SQL_QUERY_FILES_TODO)
				fail_msg("%s: %s", sqlite_sql[id], step);
		}
		sqlite3_finalize(st);
		free(sql);
	}
	sqlite3_close(db);
	opened_again(f, path);
}

static void plan_of(const char *path, enum sql_id id, char *buf, size_t size)
{
	char *sql = NULL, rows[4096];

	assert_true(asprintf(&sql, "EXPLAIN QUERY PLAN %s", sqlite_sql[id]) > 0);
	query_text(path, sql, rows, sizeof(rows));
	snprintf(buf, size, "%s", strrchr(rows, '|') + 1);
	free(sql);
}

/* What is due is read from the index of what has work, in its order; the backlog is counted from it too. */
static void test_statements__take_todo_from_its_index(void **state)
{
	struct engine_fixture *f = *state;
	char *path = closed(f), plan[256];

	plan_of(path, SQL_QUERY_FILES_TODO_BEFORE, plan, sizeof(plan));
	assert_string_equal(plan, "SEARCH files USING INDEX files_todo (todo<?)\n"); /* and no sorting after it */
	plan_of(path, SQL_TODO_COUNT, plan, sizeof(plan));
	assert_string_equal(plan, "SCAN files USING INDEX files_todo\n");
	plan_of(path, SQL_CONTENTS_GET, plan, sizeof(plan));
	assert_string_equal(plan, "SEARCH contents USING INTEGER PRIMARY KEY (rowid=?)\n");
	/* Those that many files go through do not touch inline bytes. */
	assert_null(strstr(sqlite_sql[SQL_LIST], "contents"));
	assert_null(strstr(sqlite_sql[SQL_GET], "contents"));
	opened_again(f, path);
}

static void test_path__may_have_any_characters(void **state)
{
	struct engine_fixture *f = *state;
	char *path = path_in(f, "a?b%41#c d.db");
	struct engine *e = NULL;

	TEST_OK(open_at(path, true, &e));
	engine_free(e);
	assert_int_equal(access(path, F_OK), 0);
	free(path);
	path = closed(f);
	opened_elsewhere(f, path);
}

#define T(test) cmocka_unit_test_prestate_setup_teardown(test, engine_fixture_setup, engine_fixture_teardown, initial)

int main(void)
{
	void *initial = (void *)(uintptr_t)&kind;
	const struct CMUnitTest tests[] = {
		T(test_open__refuses_what_is_not_there),
		T(test_open__refuses_what_is_no_index),
		T(test_open__refuses_another_schema),
		T(test_open__refuses_a_damaged_index),
		T(test_damage__is_met_with_eio),
		T(test_check__finds_broken_rules),
		T(test_damage__of_contents_is_met_with_eio),
		T(test_readonly__reads_and_refuses_changes),
		T(test_open__is_for_one_process),
		T(test_rows__are_readable),
		T(test_tags__mirror_user_xattrs),
		T(test_statements__use_indexes),
		T(test_statements__take_todo_from_its_index),
		T(test_path__may_have_any_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
