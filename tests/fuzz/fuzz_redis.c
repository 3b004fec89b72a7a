/*
 * Any bytes as what lies in Redis: the first says as which kind of value or message. Taken or -EBADMSG; what is taken is put
 * again and taken again, the same bytes.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "meta/redis_codec.h"
#include "meta/redis_conn.h"

static void same(const struct mfs_buf *a, const struct mfs_buf *b)
{
	assert(a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0));
}

static void record(const char *p, size_t len)
{
	MFS_AUTOBUF struct mfs_buf a = MFS_BUF_INIT(1u << 20), b = MFS_BUF_INIT(1u << 20);
	struct node n;
	int r = value_get_record(p, len, &n);

	assert(r == 0 || r == -EBADMSG || r == -ENOMEM);
	if (r < 0)
		return;
	r = value_put_record(&a, &n);
	node_release(&n);
	if (r < 0)
		return;
	assert(value_get_record(a.data, a.len, &n) == 0);
	assert(value_put_record(&b, &n) == 0);
	node_release(&n);
	same(&a, &b);
}

static void page(const char *p, size_t len)
{
	MFS_AUTOBUF struct mfs_buf a = MFS_BUF_INIT(1u << 20), b = MFS_BUF_INIT(1u << 20);
	struct node_list l = NODE_LIST_INIT, again = NODE_LIST_INIT;
	int r = value_get_page(p, len, 5, &l);

	assert(r == 0 || r == -EBADMSG || r == -ENOMEM);
	assert(r == 0 || l.n == 0);
	if (r == 0 && value_put_page(&a, l.v, l.n) == 0) {
		assert(value_get_page(a.data, a.len, 5, &again) == 0 && again.n == l.n);
		assert(value_put_page(&b, again.v, again.n) == 0);
		same(&a, &b);
	}
	node_list_release(&l);
	node_list_release(&again);
}

static void search(const char *p, size_t len)
{
	MFS_AUTOBUF struct mfs_buf a = MFS_BUF_INIT(1u << 21), b = MFS_BUF_INIT(1u << 21);
	struct node_list l = NODE_LIST_INIT, again = NODE_LIST_INIT;
	int r = value_get_find(p, len, &l);

	assert(r == 0 || r == -EBADMSG || r == -ENOMEM);
	assert(r == 0 || l.n == 0);
	if (r == 0 && value_put_find(&a, l.v, l.n) == 0) {
		assert(value_get_find(a.data, a.len, &again) == 0 && again.n == l.n);
		assert(value_put_find(&b, again.v, again.n) == 0);
		same(&a, &b);
	}
	node_list_release(&l);
	node_list_release(&again);
}

static void message(const char *p, size_t len)
{
	MFS_AUTOBUF struct mfs_buf a = MFS_BUF_INIT(1u << 20), b = MFS_BUF_INIT(1u << 20);
	static struct hints h;
	int r = hints_get(p, len, &h);

	assert(r == 0 || r == -EBADMSG);
	if (r < 0)
		return;
	assert(hints_put(&a, &h) == 0);
	assert(hints_get(a.data, a.len, &h) == 0);
	assert(hints_put(&b, &h) == 0);
	same(&a, &b);
}

static void uri(const char *p, size_t len)
{
	char *text = malloc(len + 1), *reason = NULL;
	struct redis_uri u;
	int r;

	if (!text)
		return;
	if (len)
		memcpy(text, p, len);
	text[len] = '\0';
	r = redis_uri_parse(text, &u, &reason);

	assert(r == 0 || r == -EINVAL);
	if (r == 0) {
		assert(u.path || (u.host && u.port));
		redis_uri_release(&u);
	}
	free(reason);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	struct value_entry e;
	struct value_head h;

	if (size == 0)
		return 0;
	switch (*p) {
	case 'r':
		record(p + 1, size - 1);
		break;
	case 'p':
		page(p + 1, size - 1);
		break;
	case 'q':
		search(p + 1, size - 1);
		break;
	case 'm':
		message(p + 1, size - 1);
		break;
	case 'u':
		uri(p + 1, size - 1);
		break;
	case 'h':
		if (value_get_head(p + 1, size - 1, &h) == 0)
			assert(size > REDIS_HEADER && strchr("RENPQT", (char)h.kind));
		break;
	default:
		if (value_get_entry(p + 1, size - 1, &e) == 0)
			assert(size > 16);
	}
	return 0;
}
