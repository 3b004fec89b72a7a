/*
 * The way to a MongoDB: its URI (which may hold a password, and is never shown), the options that massfs needs in it, and
 * whether a replica set answers there.
 */
#include <errno.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "meta/mongo_internal.h"

#define SELECT_MS   500	 /* one wait for a primary; the loop around it has the deadline */
#define CONNECT_MS  3000 /* also after which a monitor takes a hung server for gone */
#define MIN_WIRE    9	 /* MongoDB 4.4 */
#define FIRST_MS    10000 /* how long the first answer may take, at most */

/* --- libmongoc itself --- */

static void log_line(mongoc_log_level_t level, const char *domain, const char *message, void *arg)
{
	(void)arg;
	if (level <= MONGOC_LOG_LEVEL_CRITICAL)
		mfs_log(MFS_LOG_META, MFS_LOG_WARN, NULL, "libmongoc %s: %s", domain, message);
	else
		mfs_debug(MFS_LOG_META, NULL, "libmongoc %s: %s", domain, message);
}

static void library_once(void)
{
	mongoc_init();
	mongoc_log_set_handler(log_line, NULL);
}

void mongo_library_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, library_once);
}

/* --- the URI --- */

/* The hosts, "a:1,b:2". */
static char *hosts_of(const mongoc_uri_t *uri)
{
	struct mfs_buf b = MFS_BUF_INIT(65536);

	for (const mongoc_host_list_t *h = mongoc_uri_get_hosts(uri); h; h = h->next)
		mfs_buf_printf(&b, "%s%s", b.len ? "," : "", h->host_and_port);
	if (!b.len)
		mfs_buf_puts(&b, "(srv)");
	if (b.err) {
		mfs_buf_release(&b);
		return NULL;
	}
	return mfs_buf_take(&b);
}

static int parse(const char *text, mongoc_uri_t **ret, char **ret_reason)
{
	bson_error_t err = { 0 };

	/* It logs what it stumbles over, too: see below. */
	mongoc_log_set_handler(NULL, NULL);
	*ret = text ? mongoc_uri_new_with_error(text, &err) : NULL;
	mongoc_log_set_handler(log_line, NULL);
	if (*ret)
		return 0;
	/* libmongoc's reason may quote what it stumbled over: part of a password, perhaps. */
	*ret_reason = !text || strchr(text, '@') ?
			      mfs_str_printf("mongodb = is not a MongoDB URI (mongodb://[user:password@]host:port/?replicaSet=NAME; "
					     "in user and password, : / ? # [ ] @ %% are written as %%XX)") :
			      mfs_str_printf("mongodb = is not a MongoDB URI: %s", err.message);
	return -EINVAL;
}

static void set_options(mongoc_uri_t *uri, unsigned int pool_size, int64_t deadline_ns)
{
	int32_t ms = (int32_t)MFS_MIN(deadline_ns / 1000000, INT64_C(600000));
	mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);

	/* What may be sent again is known here, not there. */
	mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYREADS, false);
	mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYWRITES, false);
	mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, SELECT_MS);
	mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, ms);
	mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, CONNECT_MS);
	mongoc_uri_set_option_as_int32(uri, MONGOC_URI_MAXPOOLSIZE, (int32_t)pool_size);
	mongoc_uri_set_read_prefs_t(uri, primary);
	mongoc_read_prefs_destroy(primary);
}

/* --- the first answer --- */

struct hello {
	char *set; /* of the replica set; NULL: none */
	bool mongos;
	int64_t wire;
};

static int ask_hello(mongoc_client_t *client, int64_t until, struct hello *ret, char **ret_reason)
{
	bson_t *cmd = BCON_NEW("hello", BCON_INT32(1)), reply;
	mongoc_read_prefs_t *any = mongoc_read_prefs_new(MONGOC_READ_NEAREST);
	bson_error_t err = { 0 };
	bool ok = false;

	for (;;) {
		ok = mongoc_client_command_simple(client, "admin", cmd, any, &reply, &err);
		if (ok || mfs_mono_ns() >= until ||
		    (err.domain != MONGOC_ERROR_SERVER_SELECTION && err.domain != MONGOC_ERROR_STREAM))
			break;
		bson_destroy(&reply);
	}
	if (ok) {
		struct mongo_doc d = { .bson = &reply, .collection = "the reply of hello" };
		char msg[16];

		ret->set = mongo_doc_string(&d, "setName", 1024);
		mongo_doc_chars(&d, "msg", msg, sizeof(msg));
		ret->mongos = !strcmp(msg, "isdbgrid");
		ret->wire = mongo_doc_i64(&d, "maxWireVersion", 0);
	} else {
		*ret_reason = err.domain == MONGOC_ERROR_CLIENT && err.code == MONGOC_ERROR_CLIENT_AUTHENTICATE ?
				      strdup("it refuses the user or the password") :
				      strdup(err.message);
	}
	bson_destroy(&reply);
	bson_destroy(cmd);
	mongoc_read_prefs_destroy(any);
	return ok ? 0 : -EIO;
}

static int check_hello(const struct hello *h, const char *where, char **ret_reason)
{
	if (h->mongos)
		*ret_reason = mfs_str_printf("mongodb %s is the router of a sharded cluster; massfs needs a replica set", where);
	else if (!h->set)
		*ret_reason = mfs_str_printf("mongodb %s is not a replica set, which massfs needs for transactions and news: start "
					     "mongod with --replSet NAME and run rs.initiate() (one node is enough)",
					     where);
	else if (h->wire < MIN_WIRE)
		*ret_reason = mfs_str_printf("mongodb %s is too old; massfs needs MongoDB 4.4 or newer", where);
	else
		return 0;
	return h->set && !h->mongos ? -EPROTONOSUPPORT : -EINVAL;
}

/* Who answers? By a client of its own, which waits for nothing else. */
static int look(mongoc_uri_t *uri, const char *where, int64_t deadline_ns, char **ret_reason)
{
	int64_t until = mfs_mono_ns() + MFS_MIN(deadline_ns, FIRST_MS * INT64_C(1000000));
	mongoc_uri_t *copy = mongoc_uri_copy(uri);
	MFS_AUTOFREE char *why = NULL;
	mongoc_client_t *client;
	struct hello h = { 0 };
	int r;

	mongoc_uri_set_option_as_int32(copy, MONGOC_URI_SOCKETTIMEOUTMS, CONNECT_MS);
	mongoc_uri_set_option_as_bool(copy, MONGOC_URI_SERVERSELECTIONTRYONCE, false);
	client = mongoc_client_new_from_uri(copy);
	mongoc_uri_destroy(copy);
	if (!client) {
		*ret_reason = mfs_str_printf("mongodb %s: the URI has options that do not go together", where);
		return -EINVAL;
	}
	(void)mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
	r = ask_hello(client, until, &h, &why);
	mongoc_client_destroy(client);
	if (r < 0)
		*ret_reason = mfs_str_printf("mongodb %s can't be reached or used: %s", where, why ? why : "no memory");
	else
		r = check_hello(&h, where, ret_reason);
	/* One host without the set's name would be taken for a server of its own, and never left for the next primary. */
	if (r == 0 && !mongoc_uri_get_replica_set(uri) &&
	    !mongoc_uri_get_option_as_bool(uri, MONGOC_URI_DIRECTCONNECTION, false))
		mongoc_uri_set_option_as_utf8(uri, MONGOC_URI_REPLICASET, h.set);
	free(h.set);
	return r;
}

int mongo_uri_open(const struct mongo_options *opt, int64_t deadline_ns, mongoc_uri_t **ret, char **ret_where,
		   char **ret_reason)
{
	mongoc_uri_t *uri = NULL;
	char *where;
	int r = parse(opt->uri, &uri, ret_reason);

	if (r < 0)
		return r;
	where = hosts_of(uri);
	if (!where) {
		mongoc_uri_destroy(uri);
		return -ENOMEM;
	}
	set_options(uri, opt->pool_size ? opt->pool_size : 32, deadline_ns);
	r = look(uri, where, deadline_ns, ret_reason);
	if (r < 0) {
		free(where);
		mongoc_uri_destroy(uri);
		return r;
	}
	*ret = uri;
	*ret_where = where;
	return 0;
}
