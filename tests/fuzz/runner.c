/*
 * Runs a fuzz target without libFuzzer: every file of the corpus, then mutations of them for some seconds.
 * usage: fuzz_NAME [-t SECONDS] [-s SEED] FILE-OR-DIR...
 * The seed is printed. Before each input its bytes are kept in memory; when the target aborts, they are written to
 * massfs-fuzz-crash.bin in $TMPDIR or /tmp and the path is printed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/str.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX_BYTES 65536
#define MAX_SEEDS	256

struct input {
	uint8_t *bytes;
	size_t len;
};

static struct input seeds[MAX_SEEDS];
static size_t n_seeds;
static uint8_t current[INPUT_MAX_BYTES];
static size_t current_len;
static char crash_path[4096];
static uint64_t rng;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static void on_crash(int sig)
{
	int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd >= 0 && write(fd, current, current_len) >= 0 &&
	    write(STDERR_FILENO, "input kept in ", 14) > 0 &&
	    write(STDERR_FILENO, crash_path, strlen(crash_path)) > 0 && write(STDERR_FILENO, "\n", 1) > 0)
		close(fd);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void load_file(const char *path)
{
	MFS_AUTOBUF struct mfs_buf b = MFS_BUF_INIT(INPUT_MAX_BYTES);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || mfs_buf_read_fd(&b, fd) < 0 || n_seeds == MAX_SEEDS) {
		fprintf(stderr, "%s: cannot be read, or too many\n", path);
		exit(2);
	}
	close(fd);
	seeds[n_seeds].len = b.len;
	seeds[n_seeds++].bytes = (uint8_t *)mfs_buf_take(&b);
}

static void load(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de;

	if (!dir) {
		load_file(path);
		return;
	}
	while ((de = readdir(dir))) {
		MFS_AUTOFREE char *file = mfs_path_join(path, de->d_name);

		if (de->d_name[0] != '.')
			load_file(file);
	}
	closedir(dir);
}

static void remove_bytes(size_t at, size_t n)
{
	memmove(current + at, current + at + n, current_len - at - n);
	current_len -= n;
}

static void insert_bytes(size_t at, const uint8_t *bytes, size_t n)
{
	if (current_len + n > INPUT_MAX_BYTES)
		return;
	memmove(current + at + n, current + at, current_len - at);
	memcpy(current + at, bytes, n);
	current_len += n;
}

/* A piece of any seed, at any place. */
static void splice_seed(size_t at)
{
	const struct input *from = &seeds[rnd() % n_seeds];
	size_t begin, n;

	if (!from->len)
		return;
	begin = rnd() % from->len;
	n = rnd() % MFS_MIN(from->len - begin + 1, (size_t)64);
	insert_bytes(at, from->bytes + begin, n);
}

static void mutate_once(void)
{
	static const uint8_t special[] = { ',', '=', '\\', '"', '\n', '[',  ']', ';',
					   '#', ' ', ':',  '/', 0,    0xff, '-', '9' };
	size_t at = current_len ? rnd() % current_len : 0;
	uint8_t byte = rnd() & 1 ? special[rnd() % sizeof(special)] : (uint8_t)rnd();

	switch (rnd() % 5) {
	case 0:
		if (current_len)
			current[at] = byte;
		break;
	case 1:
		insert_bytes(at, &byte, 1);
		break;
	case 2:
		if (current_len)
			remove_bytes(at, rnd() % MFS_MIN(current_len - at + 1, (size_t)16));
		break;
	default:
		splice_seed(at);
	}
}

static void run_current(void)
{
	/* In a block of its own size, so that ASan sees a read past the end. */
	MFS_AUTOFREE uint8_t *copy = malloc(current_len ? current_len : 1);

	if (current_len)
		memcpy(copy, current, current_len);
	LLVMFuzzerTestOneInput(copy, current_len);
}

static void take_seed(size_t i)
{
	current_len = seeds[i].len;
	memcpy(current, seeds[i].bytes, current_len);
}

static uint64_t run_mutations(int64_t seconds)
{
	int64_t end = mfs_mono_ns() + seconds * MFS_NSEC_PER_SEC;
	uint64_t n = 0;

	for (; mfs_mono_ns() < end; n++) {
		take_seed(rnd() % n_seeds);
		for (uint64_t i = rnd() % 8; i < 8; i++)
			mutate_once();
		run_current();
	}
	return n;
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	int64_t seconds = 3;
	uint64_t seed = (uint64_t)mfs_now_ns(), n;
	int c;

	while ((c = getopt(argc, argv, "t:s:")) != -1) {
		if (c == 't')
			seconds = atol(optarg);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	for (int i = optind; i < argc; i++)
		load(argv[i]);
	if (!n_seeds)
		return 2;
	snprintf(crash_path, sizeof(crash_path), "%s/massfs-fuzz-crash.bin", tmp ? tmp : "/tmp");
	signal(SIGABRT, on_crash);
	signal(SIGSEGV, on_crash);
	printf("seed %ju\n", (uintmax_t)seed);
	fflush(stdout);
	rng = seed ? seed : 1;
	for (size_t i = 0; i < n_seeds; i++) {
		take_seed(i);
		run_current();
	}
	n = run_mutations(seconds);
	printf("%zu seeds, %ju mutations\n", n_seeds, (uintmax_t)n);
	for (size_t i = 0; i < n_seeds; i++)
		free(seeds[i].bytes);
	return 0;
}
