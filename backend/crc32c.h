/*
 * CRC-32C (Castagnoli), the checksum of uploads that an S3 server verifies.
 */
#ifndef MASSFS_BACKEND_CRC32C_H
#define MASSFS_BACKEND_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of buf behind what `crc` is of (0 to begin). */
uint32_t mfs_crc32c(uint32_t crc, const void *buf, size_t len);
/* The same by tables alone: what the other is tested against, and what a CPU without the instruction runs. */
uint32_t mfs_crc32c_table(uint32_t crc, const void *buf, size_t len);

#endif
