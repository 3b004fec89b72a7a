/*
 * HMAC-SHA-256 by OpenSSL's EVP_MAC; the context is made once with the key and started again for each value.
 */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "meta/redis_codec.h"

struct redis_seal {
	EVP_MAC *mac;
	EVP_MAC_CTX *ctx;
};

int redis_seal_new(const unsigned char secret[32], struct redis_seal **ret)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = { OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, sizeof(digest) - 1),
				      OSSL_PARAM_END };
	struct redis_seal *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	s->ctx = s->mac ? EVP_MAC_CTX_new(s->mac) : NULL;
	if (!s->ctx || !EVP_MAC_init(s->ctx, secret, 32, params)) {
		redis_seal_free(s);
		return -EIO;
	}
	*ret = s;
	return 0;
}

void redis_seal_free(struct redis_seal *s)
{
	if (!s)
		return;
	EVP_MAC_CTX_free(s->ctx);
	EVP_MAC_free(s->mac);
	free(s);
}

static int compute(struct redis_seal *s, const char *name, const void *data, size_t len, unsigned char ret[REDIS_MAC])
{
	uint64_t name_len = strlen(name);
	unsigned char n[8];
	size_t out = 0;

	for (unsigned int i = 0; i < 8; i++)
		n[i] = (unsigned char)(name_len >> (8 * i));
	if (!EVP_MAC_init(s->ctx, NULL, 0, NULL) || !EVP_MAC_update(s->ctx, n, sizeof(n)) ||
	    !EVP_MAC_update(s->ctx, (const unsigned char *)name, name_len) || !EVP_MAC_update(s->ctx, data, len) ||
	    !EVP_MAC_final(s->ctx, ret, &out, REDIS_MAC) || out != REDIS_MAC)
		return -EIO;
	return 0;
}

int redis_seal_put(struct redis_seal *s, const char *name, struct mfs_buf *b)
{
	unsigned char mac[REDIS_MAC];
	int r = b->err;

	if (r == 0)
		r = compute(s, name, b->data, b->len, mac);
	return r < 0 ? r : mfs_buf_append(b, mac, sizeof(mac));
}

bool redis_seal_holds(struct redis_seal *s, const char *name, const void *data, size_t len, size_t *ret_len)
{
	unsigned char mac[REDIS_MAC];

	if (len < REDIS_MAC || compute(s, name, data, len - REDIS_MAC, mac) < 0)
		return false;
	*ret_len = len - REDIS_MAC;
	return CRYPTO_memcmp(mac, (const char *)data + *ret_len, REDIS_MAC) == 0;
}
