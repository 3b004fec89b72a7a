/* Any bytes as a search: refused with a column inside of it, or printed to a text that parses and prints the same. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "meta/expr.h"

static void check_print(const struct expr *e, const struct expr_env *env)
{
	MFS_AUTOBUF struct mfs_buf one = MFS_BUF_INIT(MFS_MIB), two = MFS_BUF_INIT(MFS_MIB);
	MFS_AUTOFREE char *reason = NULL;
	MFS_AUTOEXPR struct expr *again = NULL;
	size_t column;
	int r = expr_print(e, &one);

	assert(r == 0);
	r = expr_parse(one.data, one.len, env, &again, &column, &reason);
	if (r < 0) { /* the printed text has more parentheses and quotes: its bounds may be met */
		assert(one.len > EXPR_TEXT_MAX || strstr(reason, "nested") || strstr(reason, "too many"));
		return;
	}
	r = expr_print(again, &two);
	assert(r == 0 && strcmp(mfs_buf_str(&one), mfs_buf_str(&two)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct expr_env env = { .now = INT64_C(1795252500000000000) };
	struct node n = NODE_INIT;
	struct expr_subject s = { .node = &n, .path = "some/where" };
	MFS_AUTOFREE char *reason = NULL;
	MFS_AUTOEXPR struct expr *e = NULL;
	struct expr_plan plan;
	size_t column = 0;
	int r = expr_parse((const char *)data, size, &env, &e, &column, &reason);

	assert(r == 0 || (r == -EINVAL && reason && column >= 1 && column <= size + 1));
	if (r < 0)
		return 0;
	n.attr.mode = S_IFREG;
	if (node_xattr_set(&n, "user.a", data, size < 1000 ? size : 1000) == 0 &&
	    node_xattr_set(&n, "user.xdg.tags", data, size < 1000 ? size : 1000) == 0)
		(void)expr_matches(e, &s);
	expr_plan(e, UINT32_MAX, NULL, NULL, &plan);
	check_print(e, &env);
	node_release(&n);
	return 0;
}
