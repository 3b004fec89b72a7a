/*
 * The mongo engine's connections: refusals at opening, deadlines with a server that hangs, is killed or was never there, the
 * log lines of an outage, no password in any text; and documents that somebody damaged.
 */
#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "tests/lib/mongo_proxy.h"
#include "tests/lib/mongo_server.h"
#include "tests/lib/store_suite.h"

#define MS   INT64_C(1000000)
#define SLOW (test_slow())

/* What a busy machine or a sanitizer may add to a bound. */
static int64_t test_slow(void)
{
	return 4000 * MS;
}

/* --- a server of the test's own, which it may stop and kill --- */

static struct {
	char *exe, *dir, *uri, *log;
	int port;
	pid_t pid;
	bool mongod;
} own;

static void spawn_own(bool replica_set)
{
	char port[16], *argv[24] = { own.exe };
	size_t n = 1;

	snprintf(port, sizeof(port), "%d", own.port);
	if (own.mongod) {
		const char *const v[] = { "--bind_ip", "127.0.0.1", "--port", port, "--dbpath", own.dir, "--wiredTigerCacheSizeGB", "0.25" };

		for (size_t i = 0; i < MFS_ARRAY_LEN(v); i++)
			argv[n++] = (char *)(uintptr_t)v[i];
		if (replica_set) {
			argv[n++] = (char *)(uintptr_t) "--replSet";
			argv[n++] = (char *)(uintptr_t) "own";
		}
	} else {
		const char *const v[] = { "--host", "127.0.0.1", "--port", port, "--storage-path", own.dir, "--sync-on-commit",
					  "--log-file-max", "16MB", "--cache-size", "256M" };

		for (size_t i = 0; i < MFS_ARRAY_LEN(v); i++)
			argv[n++] = (char *)(uintptr_t)v[i];
		if (!replica_set)
			argv[n++] = (char *)(uintptr_t) "--standalone";
	}
	own.pid = fork();
	assert_true(own.pid >= 0);
	if (own.pid == 0) {
		int fd = open("/dev/null", O_RDWR);

		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		execv(own.exe, argv);
		_exit(127);
	}
}

static bool command_ok(const char *uri, const char *json)
{
	bson_t cmd, reply;
	mongoc_client_t *client = mongoc_client_new(uri);
	bson_error_t err;
	bool ok;

	assert_true(bson_init_from_json(&cmd, json, -1, NULL));
	ok = mongoc_client_command_simple(client, "admin", &cmd, NULL, &reply, &err);
	bson_destroy(&cmd);
	bson_destroy(&reply);
	mongoc_client_destroy(client);
	return ok;
}

static void wait_own(void)
{
	MFS_AUTOFREE char *direct = mfs_str_printf("mongodb://127.0.0.1:%d/?directConnection=true&serverSelectionTimeoutMS=500", own.port);
	int64_t until = mfs_mono_ns() + 60 * MFS_NSEC_PER_SEC;

	while (!command_ok(direct, "{\"ping\": 1}")) {
		assert_true(mfs_mono_ns() < until);
		usleep(50000);
	}
	if (own.mongod) {
		(void)command_ok(direct, "{\"replSetInitiate\": {\"_id\": \"own\"}}");
		sleep(3);
	}
}

static void kill_own(void)
{
	kill(own.pid, SIGCONT);
	kill(own.pid, SIGKILL);
	waitpid(own.pid, NULL, 0);
	own.pid = 0;
}

/* Its threads stop one by one, each when it is next looked at. */
static void freeze_own(void)
{
	int status;

	kill(own.pid, SIGSTOP);
	assert_int_equal(waitpid(own.pid, &status, WUNTRACED), own.pid);
	assert_true(WIFSTOPPED(status));
	usleep(200000);
}

static int free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0), port;

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	port = ntohs(a.sin_port);
	close(fd);
	return port;
}

/* The same program as the one that tests/servers started. */
static void find_exe(void)
{
	const struct mongo_server *s = mongo_server_start();
	char link[64], path[4096];
	ssize_t n;

	assert_true(s->pid > 0);
	snprintf(link, sizeof(link), "/proc/%ld/exe", s->pid);
	n = readlink(link, path, sizeof(path) - 1);
	assert_true(n > 0);
	path[n] = '\0';
	own.exe = strdup(path);
	own.mongod = mfs_str_ends(path, "/mongod");
}

static int start_own(void **state)
{
	(void)state;
	own.dir = store_test_dir();
	own.port = free_port();
	own.uri = mfs_str_printf("mongodb://127.0.0.1:%d/", own.port);
	own.log = mfs_str_printf("%s.log", own.dir);
	spawn_own(true);
	wait_own();
	return mfs_log_to_file(own.log);
}

static int stop_own(void **state)
{
	(void)state;
	mfs_log_to_stderr();
	if (own.pid)
		kill_own();
	unlink(own.log);
	store_test_remove(own.dir);
	free(own.uri);
	free(own.log);
	return 0;
}

/* How often a text is in the log so far. */
static unsigned int logged(const char *text)
{
	FILE *f = fopen(own.log, "re");
	char line[4096];
	unsigned int n = 0;

	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, text) != NULL;
	if (f)
		fclose(f);
	return n;
}

static struct engine *open_on(const char *uri, const char *database, int64_t deadline_ns)
{
	const struct mongo_options opt = { .uri = uri, .database = database, .create = true, .deadline_ns = deadline_ns, .pool_size = 4 };
	struct volume_record v = { .schema = MFS_SCHEMA, .uuid = "u", .created = 1 };
	struct engine *e = NULL;
	char *reason = NULL;
	int r = mongo_engine_open(&opt, &e, &reason);

	if (r < 0)
		fail_msg("open: %s", reason);
	free(reason);
	e->session = 7;
	TEST_OK(engine_volume_put(e, NULL, &v));
	return e;
}

/* --- deadlines --- */

static int timed_get(struct engine *e, struct op_ctx *op, mfs_ino_t ino, int64_t *ret_ns)
{
	struct node n = NODE_INIT;
	int64_t start = mfs_mono_ns();
	int r = engine_get(e, op, ino, &n);

	*ret_ns = mfs_mono_ns() - start;
	node_release(&n);
	return r;
}

static void test_a_hung_server_costs_the_deadline(void **state)
{
	struct engine *e = open_on(own.uri, "hung", 3000 * MS);
	struct op_ctx op = { 0 };
	struct change c = { 0 };
	int64_t took;

	(void)state;
	TEST_OK(timed_get(e, NULL, MFS_ROOT_INO, &took));
	freeze_own();
	op.deadline_ns = mfs_mono_ns() + 1000 * MS;
	assert_int_equal(timed_get(e, &op, MFS_ROOT_INO, &took), -EIO);
	assert_in_range(took, 900 * MS, 1000 * MS + SLOW);
	assert_int_equal(timed_get(e, NULL, MFS_ROOT_INO, &took), -EIO);
	assert_in_range(took, 2900 * MS, 3000 * MS + SLOW);
	change_touch(&c, MFS_ROOT_INO, 5, 0, 0);
	took = mfs_mono_ns();
	assert_int_equal(engine_apply(e, NULL, &c), -EIO);
	assert_in_range(mfs_mono_ns() - took, 2500 * MS, 4 * 3000 * MS + SLOW);
	assert_int_equal(logged("does not answer"), 1);
	assert_int_equal(logged("answers again"), 0);
	kill(own.pid, SIGCONT);
	TEST_OK(timed_get(e, NULL, MFS_ROOT_INO, &took));
	assert_true(took < 2000 * MS + SLOW);
	assert_int_equal(logged("answers again"), 1);
	engine_free(e);
}

struct waiter {
	struct engine *e;
	mfs_ino_t a, b;
	int r;
	int64_t took;
};

static void *wait_in_get(void *arg)
{
	struct waiter *w = arg;

	w->r = timed_get(w->e, NULL, MFS_ROOT_INO, &w->took);
	return NULL;
}

static void test_calls_wait_for_a_server_that_is_restarted(void **state)
{
	struct engine *e = open_on(own.uri, "restarted", 60000 * MS);
	struct waiter w[6];
	pthread_t t[6];
	mfs_ino_t ino;

	(void)state;
	ino = test_make(e, MFS_ROOT_INO, "there", 0100644);
	kill_own();
	for (size_t i = 0; i < 6; i++) { /* more than there are connections */
		w[i] = (struct waiter){ .e = e };
		assert_int_equal(pthread_create(&t[i], NULL, wait_in_get, &w[i]), 0);
	}
	sleep(2);
	spawn_own(true);
	for (size_t i = 0; i < 6; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(w[i].r, 0);
		assert_true(w[i].took >= 1900 * MS);
	}
	assert_int_equal(test_find(e, MFS_ROOT_INO, "there"), ino);
	assert_int_equal(logged("does not answer"), 1);
	assert_int_equal(logged("answers again"), 1);
	engine_free(e);
}

/* Of two records: a transaction. */
static int edit_two(struct engine *e, mfs_ino_t a, mfs_ino_t b)
{
	struct change c = { 0 };

	change_write(&c, WRITE_EDIT, a)->mask = EDIT_BUMP_LAY;
	change_write(&c, WRITE_EDIT, b)->mask = EDIT_BUMP_LAY;
	return engine_apply(e, NULL, &c);
}

static void *wait_in_edit(void *arg)
{
	struct waiter *w = arg;
	int64_t start = mfs_mono_ns();

	w->r = edit_two(w->e, w->a, w->b);
	w->took = mfs_mono_ns() - start;
	return NULL;
}

/* Also the beginning of a transaction, on a connection that has none yet, or whose last one broke off. */
static void test_changes_wait_for_a_server_that_is_restarted(void **state)
{
	struct engine *e = open_on(own.uri, "restarted-2", 60000 * MS);
	mfs_ino_t a, b;

	(void)state;
	a = test_make(e, MFS_ROOT_INO, "a", 0100644);
	b = test_make(e, MFS_ROOT_INO, "b", 0100644);
	for (int round = 0; round < 3; round++) {
		struct waiter w = { .e = e, .a = a, .b = b };
		uint64_t lay = test_attr(e, a).lay;
		pthread_t t;

		kill_own();
		assert_int_equal(pthread_create(&t, NULL, wait_in_edit, &w), 0);
		sleep(2);
		spawn_own(true);
		pthread_join(t, NULL);
		assert_int_equal(w.r, 0);
		assert_true(w.took >= 1900 * MS);
		assert_int_equal(test_attr(e, a).lay, lay + 1);
		assert_int_equal(test_attr(e, b).lay, lay + 1);
		TEST_OK(edit_two(e, a, b));
	}
	engine_free(e);
}

static void test_a_server_that_stays_away_is_eio_at_the_deadline(void **state)
{
	struct engine *e = open_on(own.uri, "gone", 2000 * MS);
	int64_t took, start;

	(void)state;
	kill_own();
	assert_int_equal(timed_get(e, NULL, MFS_ROOT_INO, &took), -EIO);
	assert_in_range(took, 1900 * MS, 2000 * MS + SLOW);
	assert_int_equal(timed_get(e, NULL, MFS_ROOT_INO, &took), -EIO);
	assert_int_equal(logged("does not answer"), 1);
	start = mfs_mono_ns();
	engine_free(e);
	assert_true(mfs_mono_ns() - start < 5000 * MS + SLOW);
}

static void test_a_cancelled_call_does_not_wait(void **state)
{
	struct engine *e = open_on(own.uri, "cancelled", 30000 * MS);
	struct op_ctx op = { 0 };
	int64_t took;

	(void)state;
	kill_own();
	atomic_store(&op.cancelled, true);
	assert_int_equal(timed_get(e, &op, MFS_ROOT_INO, &took), -ECANCELED);
	assert_true(took < 2000 * MS + SLOW);
	engine_free(e);
}

/* --- opening --- */

static int open_with(const char *uri, const char *database, bool create, char **reason, int64_t *took)
{
	const struct mongo_options opt = { .uri = uri, .database = database, .create = create, .deadline_ns = 2000 * MS };
	struct engine *e = NULL;
	int r;

	*took = mfs_mono_ns();
	r = mongo_engine_open(&opt, &e, reason);
	*took = mfs_mono_ns() - *took;
	if (r == 0)
		engine_free(e);
	return r;
}

static void expect_refused(const char *uri, const char *database, int want, const char *text)
{
	char *reason = NULL;
	int64_t took;

	assert_int_equal(open_with(uri, database, false, &reason, &took), want);
	assert_true(took < 2000 * MS + SLOW);
	assert_non_null(reason);
	if (!strstr(reason, text))
		fail_msg("\"%s\" does not say \"%s\"", reason, text);
	assert_null(strstr(reason, "geheim"));
	free(reason);
}

static void test_opening_is_refused_with_the_reason(void **state)
{
	const char *uri = mongo_server_start()->uri;
	MFS_AUTOFREE char *nobody = mfs_str_printf("mongodb://joe:geheim@127.0.0.1:%d/", free_port());

	(void)state;
	expect_refused("127.0.0.1", "db", -EINVAL, "not a MongoDB URI");
	expect_refused("mongodb://joe:geheim%@127.0.0.1/", "db", -EINVAL, "not a MongoDB URI");
	expect_refused("mongodb://joe:geheim?geheim@127.0.0.1:99999/", "db", -EINVAL, "not a MongoDB URI");
	expect_refused(nobody, "db", -EIO, "can't be reached or used");
	expect_refused("mongodb://nowhere.invalid/", "db", -EIO, "can't be reached or used");
	expect_refused(uri, "a.b", -EINVAL, "name of a MongoDB database");
	expect_refused(uri, "admin", -EINVAL, "name of a MongoDB database");
	expect_refused(uri, "never_made", -ENOENT, "no massfs index");
}

static void put_schema(const char *database, uint32_t schema)
{
	struct volume_record v = { .schema = schema, .uuid = "u", .created = 1 };
	struct engine *e = open_on(mongo_server_start()->uri, database, 0);

	TEST_OK(engine_volume_put(e, NULL, &v));
	engine_free(e);
}

static void test_another_schema_is_refused(void **state)
{
	const char *uri = mongo_server_start()->uri;
	char *database = malloc(64);

	(void)state;
	snprintf(database, 64, "massfs-schema-%ld", (long)getpid());
	put_schema(database, MFS_SCHEMA + 1);
	expect_refused(uri, database, -EPROTONOSUPPORT, "newer massfs");
	mongo_server_release(database);
	database = malloc(64);
	snprintf(database, 64, "massfs-schema-%ld", (long)getpid());
	put_schema(database, MFS_SCHEMA - 1);
	expect_refused(uri, database, -EPROTO, "schema");
	mongo_server_release(database);
}

static void test_a_server_without_a_replica_set_is_refused(void **state)
{
	(void)state;
	kill_own();
	spawn_own(false);
	wait_own();
	expect_refused(own.uri, "db", -EINVAL, "not a replica set");
}

/* --- documents --- */

static void damage(const char *database, mfs_ino_t ino, const char *json)
{
	mongoc_client_t *client = mongoc_client_new(mongo_server_start()->uri);
	mongoc_collection_t *coll = mongoc_client_get_collection(client, database, "files");
	bson_t *filter = BCON_NEW("_id", BCON_INT64((int64_t)ino)), update;
	bson_error_t err;

	assert_true(bson_init_from_json(&update, json, -1, NULL));
	if (!mongoc_collection_update_one(coll, filter, &update, NULL, NULL, &err))
		fail_msg("%s", err.message);
	bson_destroy(&update);
	bson_destroy(filter);
	mongoc_collection_destroy(coll);
	mongoc_client_destroy(client);
}

static void test_damaged_documents_are_euclean(void **state)
{
	static const char *const cases[] = {
		"{\"$set\": {\"mode\": \"file\"}}",
		"{\"$unset\": {\"ver\": 1}}",
		"{\"$set\": {\"size\": -1}}",
		"{\"$set\": {\"uid\": {\"$numberLong\": \"4294967296\"}}}",
		"{\"$set\": {\"nlink\": 1.5}}",
		"{\"$set\": {\"name\": \"a/b\"}}",
		"{\"$set\": {\"name\": 5}}",
		"{\"$set\": {\"xattrs\": [{\"n\": \"user.a\"}]}}",
		"{\"$set\": {\"xattrs\": [7]}}",
		"{\"$set\": {\"xattrs\": \"x\"}}",
		"{\"$set\": {\"inline\": \"text\"}}",
		"{\"$set\": {\"fenced\": [\"x\"]}}",
		"{\"$set\": {\"times\": {\"a\": \"now\"}}}",
		"{\"$set\": {\"store\": 70000}}",
	};
	char *database = malloc(64);
	struct engine *e;

	(void)state;
	snprintf(database, 64, "massfs-damage-%ld", (long)getpid());
	e = open_on(mongo_server_start()->uri, database, 0);
	for (size_t i = 0; i < MFS_ARRAY_LEN(cases); i++) {
		char name[16];
		struct node n = NODE_INIT;
		mfs_ino_t ino;
		int r;

		snprintf(name, sizeof(name), "f%zu", i);
		ino = test_make(e, MFS_ROOT_INO, name, 0100644);
		damage(database, ino, cases[i]);
		r = engine_get(e, NULL, ino, &n);
		if (r != -EUCLEAN)
			fail_msg("%s gives %d", cases[i], r);
	}
	engine_free(e);
	mongo_server_release(database);
}

static void test_doubles_of_a_shell_are_taken(void **state)
{
	char *database = malloc(64);
	struct node n = NODE_INIT;
	struct engine *e;
	mfs_ino_t ino;

	(void)state;
	snprintf(database, 64, "massfs-doubles-%ld", (long)getpid());
	e = open_on(mongo_server_start()->uri, database, 0);
	ino = test_make(e, MFS_ROOT_INO, "f", 0100644);
	damage(database, ino, "{\"$set\": {\"mode\": 33152.0, \"uid\": {\"$numberInt\": \"5\"}}}");
	test_get(e, ino, &n);
	assert_int_equal(n.attr.mode, 0100600);
	assert_int_equal(n.attr.uid, 5);
	node_release(&n);
	engine_free(e);
	mongo_server_release(database);
}

/* 1 MiB of extended attributes, the bound of an inode. */
static void test_a_record_holds_all_the_xattrs_there_may_be(void **state)
{
	char *database = malloc(64), name[16], *value = malloc(MFS_XATTR_SIZE_MAX);
	struct node n = NODE_INIT, back = NODE_INIT;
	struct change c = { 0 };
	struct engine *e;

	(void)state;
	snprintf(database, 64, "massfs-xattrs-%ld", (long)getpid());
	e = open_on(mongo_server_start()->uri, database, 0);
	n = test_node(e, MFS_ROOT_INO, "f", 0100644);
	memset(value, 'x', MFS_XATTR_SIZE_MAX);
	for (int i = 0; i < 15; i++) {
		snprintf(name, sizeof(name), "user.%02d", i);
		TEST_OK(node_xattr_set(&n, name, value, MFS_XATTR_SIZE_MAX));
	}
	change_write(&c, WRITE_INSERT, n.attr.ino)->node = &n;
	TEST_OK(engine_apply(e, NULL, &c));
	test_get(e, n.attr.ino, &back);
	n.attr.flags = back.attr.flags;
	test_same_node(&n, &back);
	node_release(&n);
	node_release(&back);
	free(value);
	engine_free(e);
	mongo_server_release(database);
}

/* --- round trips of reads: in docs/design.md --- */

static void link_to(struct engine *e, mfs_ino_t ino, const char *name)
{
	struct alias a = { .id = test_number(e), .parent = MFS_ROOT_INO, .target = ino, .name = test_name(name) };
	struct change c = { 0 };

	change_write(&c, WRITE_EDIT, ino)->nlink_delta = 1;
	change_write(&c, WRITE_ALIAS_INSERT, a.id)->alias = &a;
	TEST_OK(engine_apply(e, NULL, &c));
}

static void expect_trips(struct mongo_proxy *p, unsigned int want, const char *what)
{
	char names[4096];

	if (mongo_proxy_count(p) != want) {
		mongo_proxy_names(p, names, sizeof(names));
		fail_msg("%s: %u commands, not %u: %s", what, mongo_proxy_count(p), want, names);
	}
	mongo_proxy_on(p, 0, PROXY_LOSE, NULL, NULL);
}

static void list_all(struct engine *e, struct mongo_proxy *p, size_t limit, size_t want, unsigned int trips)
{
	struct node_list l = NODE_LIST_INIT;

	TEST_OK(engine_list(e, NULL, MFS_ROOT_INO, 0, limit, &l));
	assert_int_equal(l.n, want);
	node_list_release(&l);
	expect_trips(p, trips, "a page of a listing");
}

static void test_reads_take_as_many_round_trips_as_they_must(void **state)
{
	struct mongo_proxy *p = mongo_proxy_new(mongo_server_start()->uri);
	struct mfs_name a = test_name("f001"), b = test_name("hard"), none = test_name("none");
	struct query q = { .todo = true, .limit = 100 };
	struct node_list l = NODE_LIST_INIT;
	struct node n = NODE_INIT;
	struct entry entry;
	char *database = malloc(64), name[16];
	struct engine *e;
	mfs_ino_t ino = 0;
	uint64_t files, bytes;

	(void)state;
	snprintf(database, 64, "massfs-trips-%ld", (long)getpid());
	e = open_on(mongo_proxy_uri(p), database, 0);
	for (int i = 0; i < 300; i++) { /* more than the 101 documents that a first batch has by default */
		snprintf(name, sizeof(name), "f%03d", i);
		ino = test_make(e, MFS_ROOT_INO, name, 0100644);
	}
	sleep(1);
	mongo_proxy_on(p, 0, PROXY_LOSE, NULL, NULL);
	TEST_OK(engine_get(e, NULL, ino, &n));
	node_release(&n);
	expect_trips(p, 1, "get");
	assert_int_equal(engine_get(e, NULL, ino + 5000, &n), -ESTALE);
	expect_trips(p, 3, "get of none");
	TEST_OK(engine_lookup(e, NULL, MFS_ROOT_INO, &a, &entry));
	entry_release(&entry);
	expect_trips(p, 1, "lookup");
	assert_int_equal(engine_lookup(e, NULL, MFS_ROOT_INO, &none, &entry), -ENOENT);
	expect_trips(p, 1, "lookup of none");
	list_all(e, p, 200, 200, 1);
	list_all(e, p, 1000, 300, 1);
	TEST_OK(engine_query(e, NULL, &q, &l));
	expect_trips(p, 1, "query");
	link_to(e, ino, "hard");
	mongo_proxy_on(p, 0, PROXY_LOSE, NULL, NULL);
	TEST_OK(engine_lookup(e, NULL, MFS_ROOT_INO, &b, &entry));
	assert_int_equal(entry.node.attr.ino, ino);
	entry_release(&entry);
	expect_trips(p, 2, "lookup of an alias");
	list_all(e, p, 1000, 301, 2);
	mongo_proxy_on(p, 0, PROXY_LOSE, NULL, NULL);
	TEST_OK(engine_count(e, NULL, &files, &bytes));
	assert_int_equal(files, 301);
	engine_free(e);
	mongo_proxy_free(p);
	mongo_server_release(database);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_take_as_many_round_trips_as_they_must),
		cmocka_unit_test(test_opening_is_refused_with_the_reason),
		cmocka_unit_test(test_another_schema_is_refused),
		cmocka_unit_test_setup_teardown(test_a_server_without_a_replica_set_is_refused, start_own, stop_own),
		cmocka_unit_test_setup_teardown(test_a_hung_server_costs_the_deadline, start_own, stop_own),
		cmocka_unit_test_setup_teardown(test_calls_wait_for_a_server_that_is_restarted, start_own, stop_own),
		cmocka_unit_test_setup_teardown(test_changes_wait_for_a_server_that_is_restarted, start_own, stop_own),
		cmocka_unit_test_setup_teardown(test_a_server_that_stays_away_is_eio_at_the_deadline, start_own, stop_own),
		cmocka_unit_test_setup_teardown(test_a_cancelled_call_does_not_wait, start_own, stop_own),
		cmocka_unit_test(test_damaged_documents_are_euclean),
		cmocka_unit_test(test_doubles_of_a_shell_are_taken),
		cmocka_unit_test(test_a_record_holds_all_the_xattrs_there_may_be),
	};
	int failed;

	unsetenv("MASSFS_MONGO"); /* servers are stopped and killed here */
	mongoc_init();
	find_exe();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	mongo_server_stop();
	free(own.exe);
	return failed;
}
