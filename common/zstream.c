/*
 * zstd as a stream over a sink or a source.
 */
#include "common/zstream.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <zstd.h>

#define WINDOW_LOG 23 /* 8 MiB */
#define CHUNK	   (128 * (size_t)MFS_KIB)

struct mfs_zwriter {
	ZSTD_CCtx *z; /* NULL: as they are */
	mfs_sink_fn *sink;
	void *arg;
	int err;
	char out[CHUNK];
};

struct mfs_zwriter *mfs_zwriter_new(int level, mfs_sink_fn *sink, void *arg)
{
	struct mfs_zwriter *w = malloc(sizeof(*w));

	if (!w)
		return NULL;
	w->z = NULL;
	w->sink = sink;
	w->arg = arg;
	w->err = 0;
	if (level <= 0)
		return w;
	w->z = ZSTD_createCCtx();
	if (!w->z || ZSTD_isError(ZSTD_CCtx_setParameter(w->z, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(w->z, ZSTD_c_checksumFlag, 1)) ||
	    (level > 12 && ZSTD_isError(ZSTD_CCtx_setParameter(w->z, ZSTD_c_windowLog, WINDOW_LOG)))) {
		mfs_zwriter_free(w);
		return NULL;
	}
	return w;
}

static int compress(struct mfs_zwriter *w, ZSTD_inBuffer *in, ZSTD_EndDirective end)
{
	size_t left;

	do {
		ZSTD_outBuffer out = { w->out, sizeof(w->out), 0 };

		left = ZSTD_compressStream2(w->z, &out, in, end);
		if (ZSTD_isError(left))
			return -ENOMEM; /* the only way for it to fail */
		if (out.pos) {
			int r = w->sink(w->arg, w->out, out.pos);

			if (r < 0)
				return r;
		}
	} while (end == ZSTD_e_end ? left != 0 : in->pos < in->size);
	return 0;
}

int mfs_zwriter_write(struct mfs_zwriter *w, const void *buf, size_t len)
{
	ZSTD_inBuffer in = { buf, len, 0 };

	if (w->err == 0)
		w->err = w->z ? compress(w, &in, ZSTD_e_continue) : w->sink(w->arg, buf, len);
	return w->err;
}

int mfs_zwriter_finish(struct mfs_zwriter *w)
{
	ZSTD_inBuffer in = { NULL, 0, 0 };

	if (w->err == 0 && w->z)
		w->err = compress(w, &in, ZSTD_e_end);
	return w->err;
}

void mfs_zwriter_free(struct mfs_zwriter *w)
{
	if (!w)
		return;
	ZSTD_freeCCtx(w->z);
	free(w);
}

struct mfs_zreader {
	ZSTD_DCtx *z;
	mfs_source_fn *source;
	void *arg;
	bool started, plain, at_end;
	bool in_frame; /* a frame has begun and not ended */
	size_t pos, n; /* of in */
	char in[CHUNK];
};

struct mfs_zreader *mfs_zreader_new(mfs_source_fn *source, void *arg)
{
	struct mfs_zreader *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->source = source;
	r->arg = arg;
	r->z = ZSTD_createDCtx();
	if (!r->z || ZSTD_isError(ZSTD_DCtx_setParameter(r->z, ZSTD_d_windowLogMax, WINDOW_LOG))) {
		mfs_zreader_free(r);
		return NULL;
	}
	return r;
}

/* More input behind what is there; at_end when there is none. */
static int fill(struct mfs_zreader *r)
{
	ssize_t got;

	if (r->pos == r->n)
		r->pos = r->n = 0;
	got = r->source(r->arg, r->in + r->n, sizeof(r->in) - r->n);
	if (got < 0)
		return (int)got;
	r->at_end = got == 0;
	r->n += (size_t)got;
	return 0;
}

/* The first four bytes tell. */
static int start(struct mfs_zreader *r)
{
	static const char magic[4] = { '\x28', '\xb5', '\x2f', '\xfd' };
	int err = 0;

	while (err == 0 && r->n < sizeof(magic) && !r->at_end)
		err = fill(r);
	if (err < 0)
		return err;
	r->started = true;
	r->plain = r->n < sizeof(magic) || memcmp(r->in, magic, sizeof(magic)) != 0;
	return 0;
}

static ssize_t read_plain(struct mfs_zreader *r, void *buf, size_t len)
{
	size_t n;

	if (r->pos == r->n && !r->at_end) {
		int err = fill(r);

		if (err < 0)
			return err;
	}
	n = MFS_MIN(len, r->n - r->pos);
	memcpy(buf, r->in + r->pos, n);
	r->pos += n;
	return (ssize_t)n;
}

ssize_t mfs_zreader_read(struct mfs_zreader *r, void *buf, size_t len)
{
	ZSTD_outBuffer out = { buf, len, 0 };

	if (!r->started) {
		int err = start(r);

		if (err < 0)
			return err;
	}
	if (r->plain)
		return read_plain(r, buf, len);
	while (out.pos == 0 && len) {
		ZSTD_inBuffer in = { r->in, r->n, r->pos };
		size_t hint;

		if (r->pos == r->n && !r->at_end) {
			int err = fill(r);

			if (err < 0)
				return err;
			continue;
		}
		if (r->pos == r->n && !r->in_frame)
			return 0;
		hint = ZSTD_decompressStream(r->z, &out, &in);
		if (ZSTD_isError(hint))
			return -EUCLEAN;
		if (in.pos == r->pos && out.pos == 0 && r->at_end)
			return -EUCLEAN; /* cut short */
		r->pos = in.pos;
		r->in_frame = hint != 0;
	}
	return (ssize_t)out.pos;
}

void mfs_zreader_free(struct mfs_zreader *r)
{
	if (!r)
		return;
	ZSTD_freeDCtx(r->z);
	free(r);
}
