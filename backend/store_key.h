/*
 * The rule that every store's keys obey; for the stores themselves.
 */
#ifndef MASSFS_BACKEND_STORE_KEY_H
#define MASSFS_BACKEND_STORE_KEY_H

#include <stdbool.h>

/* Non-empty UTF-8, at most OBJECT_KEY_MAX bytes, no empty, "." or ".." segment, segments of at most 255 bytes. */
bool store_key_is_plain(const char *key);

#endif
