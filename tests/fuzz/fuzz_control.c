/*
 * Any bytes as a request on the control socket: taken, refused or incomplete, and what is taken is the same when it is
 * put and got again. Its head is tried as a frame too.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "fs/control_wire.h"

static void check_again(const struct control_request *r)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(CONTROL_REQUEST_MAX);
	struct control_request again = { 0 };
	int err = control_request_put(r->argc, r->argv, r->progress, &b);

	assert(err == 0);
	err = control_request_get(b.data, b.len, &again);
	assert(err == 0 && again.argc == r->argc && again.progress == r->progress);
	for (int i = 0; i < r->argc; i++)
		assert(strcmp(r->argv[i], again.argv[i]) == 0);
	control_request_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request r = { 0 };
	int err = control_request_get(data, size, &r);
	uint32_t len;
	char type;

	assert(err == 0 || err == -EAGAIN || err == -EBADMSG || err == -ENOMEM);
	if (err == 0) {
		assert(r.argc >= 1 && r.argc <= CONTROL_ARGS_MAX && !r.argv[r.argc]);
		check_again(&r);
	} else {
		assert(!r.argv);
	}
	control_request_release(&r);
	if (size >= CONTROL_FRAME_HEADER && control_frame_get(data, &type, &len) == 0)
		assert(len <= CONTROL_FRAME_MAX);
	return 0;
}
