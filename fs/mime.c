/* What kind of content a file has, by its first 64 KiB: libmagic's word, and the handles that it takes. */
#include "fs/mime.h"

#include <magic.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/object_store.h"
#include "common/clock.h"
#include "common/log.h"

/* Packed content is what it is packed with: unpacking what anybody stores here is not worth the risk. */
#define FLAGS (MAGIC_MIME_TYPE | MAGIC_ERROR | MAGIC_NO_CHECK_COMPRESS)

#define IDLE_NS (10 * MFS_NSEC_PER_SEC)

void mime_release(struct mime *m)
{
	while (m->n_idle)
		magic_close(m->idle[--m->n_idle]);
}

void mime_relax(struct mime *m)
{
	struct mime unused = { .n_idle = 0 };

	{
		MFS_GUARD(&m->lock);

		if (!m->n_idle || mfs_mono_ns() - m->used_ns < IDLE_NS)
			return;
		memcpy(unused.idle, m->idle, sizeof(unused.idle));
		unused.n_idle = m->n_idle;
		m->n_idle = 0;
	}
	mime_release(&unused);
	malloc_trim(0); /* what its expressions took is in many small pieces */
}

/* No rules: one line says so, and what to do. */
static void give_up(struct mime *m, magic_t h)
{
	const char *why = h ? magic_error(h) : NULL;
	bool first;

	{
		MFS_GUARD(&m->lock);

		first = !m->broken;
		m->broken = true;
	}
	if (first)
		mfs_log(MFS_LOG_FS, MFS_LOG_WARN, NULL,
			"the rules of libmagic cannot be loaded (%s): no mime types are recorded; install libmagic-mgc and mount again",
			why ? why : "no memory");
	if (h)
		magic_close(h);
}

static magic_t take(struct mime *m)
{
	magic_t h;

	{
		MFS_GUARD(&m->lock);

		if (m->n_idle)
			return m->idle[--m->n_idle];
		if (m->broken)
			return NULL;
	}
	h = magic_open(FLAGS);
	if (h && magic_load(h, NULL) == 0)
		return h;
	give_up(m, h);
	return NULL;
}

static void give_back(struct mime *m, magic_t h)
{
	{
		MFS_GUARD(&m->lock);

		m->used_ns = mfs_mono_ns();
		if (m->n_idle < MFS_ARRAY_LEN(m->idle)) {
			m->idle[m->n_idle++] = h;
			return;
		}
	}
	magic_close(h);
}

void mime_of(struct mime *m, const void *head, size_t len, char ret[MIME_MAX])
{
	const char *said;
	magic_t h;

	ret[0] = '\0';
	h = len ? take(m) : NULL;
	if (!h)
		return;
	said = magic_buffer(h, head, (size_t)MFS_MIN((uint64_t)len, MIME_HEAD));
	if (said && strlen(said) < MIME_MAX)
		snprintf(ret, MIME_MAX, "%s", said);
	give_back(m, h);
}

void mime_of_object(struct mime *m, struct object_store *s, struct op_ctx *op, const struct object_ref *ref, uint64_t size,
		    char ret[MIME_MAX])
{
	size_t len = (size_t)MFS_MIN(size, MIME_HEAD);
	MFS_AUTOFREE void *head = NULL;

	ret[0] = '\0';
	head = len ? malloc(len) : NULL;
	if (head && object_get(s, op, ref, 0, head, len) == (ssize_t)len)
		mime_of(m, head, len, ret);
}
