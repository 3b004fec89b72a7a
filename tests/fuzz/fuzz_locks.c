/* Any bytes as a file's locks: taken or refused; what is taken can be changed and written again, and comes back the same. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/lock_table.h"

static void change(struct lock_table *t, const struct file_lock *like)
{
	struct file_lock want = *like;
	bool changed;
	int r;

	want.ino = 0;
	want.start = like->start + (like->end - like->start) / 3;
	want.end = like->end - (like->end - like->start) / 3;
	want.type = LOCK_TYPE_NONE;
	assert(!lock_table_conflict(t, &want));
	r = lock_table_set(t, &want, &changed);
	assert(r == 0 || r == -ENOLCK);
	want.type = LOCK_TYPE_WRITE;
	want.owner++;
	if (!lock_table_conflict(t, &want)) {
		r = lock_table_set(t, &want, &changed);
		assert(r == 0 || r == -ENOLCK);
	}
	lock_table_drop_owner(t, &want);
	assert(lock_table_drop_owner(t, &want) == 0);
}

static void round_trip(const struct lock_table *t)
{
	struct lock_table again;
	struct node_blob a, b;
	int r = lock_table_encode(t, &a);

	assert(r == 0);
	r = lock_table_parse(&a, &again);
	assert(r == 0 && again.n == t->n);
	r = lock_table_encode(&again, &b);
	assert(r == 0 && a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size)));
	lock_table_release(&again);
	free(a.data);
	free(b.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct node_blob b = { malloc(size + 1), size };
	struct lock_table t;
	struct file_lock first;
	int r;

	assert(b.data);
	memcpy(b.data, data, size);
	r = lock_table_parse(&b, &t);
	assert(r == 0 || r == -EUCLEAN);
	if (r == 0 && t.n) {
		round_trip(&t);
		first = t.v[0];
		if (!first.ino) {
			change(&t, &first);
			round_trip(&t);
		}
		lock_table_drop_session(&t, first.session);
		assert(!lock_table_has_session(&t, first.session));
	}
	lock_table_release(&t);
	free(b.data);
	return 0;
}
