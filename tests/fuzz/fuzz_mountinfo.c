/*
 * Any text as /proc/self/mountinfo.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <string.h>

#include "common/mountinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	MFS_AUTOMOUNTINFO struct mountinfo mi = { 0 };
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	if (mountinfo_parse(text, &mi) < 0)
		return 0;
	for (size_t i = 0; i < mi.n && i < 100; i++) {
		const struct mountinfo_entry *top = mountinfo_top(&mi, mi.v[i].dir);

		assert(mi.v[i].root && mi.v[i].source && mi.v[i].fstype);
		/* Entries that name each other as parents cover each other: then nothing is on top. */
		assert(!top || !strcmp(top->dir, mi.v[i].dir));
		assert(mountinfo_by_dev(&mi, mi.v[i].dev));
	}
	return 0;
}
