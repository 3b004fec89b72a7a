/*
 * A fuzz target is one file with LLVMFuzzerTestOneInput(). With clang it is linked with libFuzzer (fuzz_NAME_lf, run
 * by hand for hours); always with runner.c, which runs the seed corpus and mutations of it for a few seconds in ctest.
 */
#ifndef MASSFS_TESTS_FUZZ_H
#define MASSFS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
