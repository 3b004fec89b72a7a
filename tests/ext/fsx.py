#!/usr/bin/env python3
"""fsx 0.3.2 in the mount, a new seed each run, with the reconciler and gc working as fast as they can beside it.

Configurations: mmap on and off, rare closes, fallocate, punched holes, copy_file_range, all of them at once, and files of 12 and
64 MiB. Each on one of four mounts in turn: with and without a block cache of 8 MiB (cache-dir=), with and without inline.
fsx 0.3.2 knows neither FALLOC_FL_ZERO_RANGE nor KEEP_SIZE: cases/ranges has these.
"""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs

# Weights: what is not named is 0. Bigger files cross the part size of 5 MiB.
BASE = dict(read=10, write=10, mapread=10, mapwrite=10, truncate=5, close_open=3, invalidate=1, fsync=1, fdatasync=1,
            sendfile=1, posix_fadvise=1)
INSIDE = dict(posix_fallocate=4, punch_hole=6, copy_file_range=6)
WEIGHTS = {
    "mmap": BASE,
    "no-mmap": {**BASE, "mapread": 0, "mapwrite": 0, "invalidate": 0},
    "rare-close": dict(read=10, write=10, mapread=5, mapwrite=5, truncate=5, close_open=0.2, invalidate=1, fsync=0.1),
    "fallocate": {**BASE, "posix_fallocate": 10},
    "punch": {**BASE, "punch_hole": 10},
    "copy": {**BASE, "copy_file_range": 10},
    "all": {**BASE, **INSIDE},
    "big": {**BASE, **INSIDE, "mapread": 3, "mapwrite": 3, "truncate": 2, "fsync": 0.5},
    "64m": {**BASE, **INSIDE, "mapread": 3, "mapwrite": 3, "truncate": 1, "fsync": 2},
}
SIZES = {"big": (12 << 20, 1 << 20), "64m": (64 << 20, 256 << 10)}  # file and operation; default 256 KiB and 64 KiB
ALL = ("close_open", "invalidate", "mapread", "mapwrite", "read", "write", "truncate", "fsync", "fdatasync",
       "posix_fallocate", "punch_hole", "sendfile", "posix_fadvise", "copy_file_range")


def config_text(name):
    flen, opsize = SIZES.get(name, (256 << 10, 64 << 10))
    weights = "\n".join(f"{key} = {float(WEIGHTS[name].get(key, 0))}" for key in ALL)
    return f"flen = {flen}\n[opsize]\nmax = {opsize}\n[weights]\n{weights}\n"


def options(suite, number):
    """The mount of the number-th run: half of them with a cache of 8 MiB, half of them without inline files."""
    cache = suite.path("cache")
    os.makedirs(cache, exist_ok=True)
    return ",".join(["allow_other", "retention=0", *([f"cache-dir={cache}", "cache-size=8M", "cache-local"] if number % 2 else []),
                     *(["inline=0"] if number // 2 % 2 else [])])


class Beside:
    """settle and gc --delete, one after the other without a pause; what was dropped is deleted at once."""

    def __init__(self, suite, mount):
        self.suite, self.mount = suite, mount
        self.stop = threading.Event()
        self.rounds, self.error = 0, None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop.is_set():
            for verb in (("settle", "--wait"), ("gc", "--delete")):
                done = subprocess.run([*self.suite.command(), *verb, self.mount.path], stdin=subprocess.DEVNULL,
                                      capture_output=True, check=False)
                if done.returncode:
                    self.error = f"massfs {' '.join(verb)}: {done.returncode}: {done.stderr.decode()[-2000:]}"
                    return
            self.rounds += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(300)
        if self.thread.is_alive():
            self.suite.fail("settle or gc does not end within 300 s")
        if self.error:
            self.suite.fail(self.error)


def one(suite, mount, name, seed, operations):
    config = suite.path(f"fsx-{name}.toml")
    mfs.put(config, config_text(name).encode())
    artifacts = suite.path("fsx")
    os.makedirs(artifacts, exist_ok=True)
    target = f"{mount.path}/fsx-{name}-{seed}"
    command = ["fsx", "-q", "-N", str(operations), "-S", str(seed), "-P", artifacts, "-f", config, target]
    with Beside(suite, mount) as beside:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=2200, check=False)
    if done.returncode:
        text = done.stdout.decode("utf-8", "replace")
        why = {1: "miscompare", 101: "a system call failed"}.get(done.returncode, "")
        suite.fail(f"fsx {name}, seed {seed}: exit code {done.returncode} {why}\n{text[-3000:]}")
        return None
    content = mfs.digest(target)
    print(f"ok     {name}, seed {seed}, {operations} operations, {os.stat(target).st_size} bytes left, settle and gc "
          f"{beside.rounds} times", flush=True)
    return target, content


def body(suite):
    if mfs.shutil.which("fsx") is None:
        suite.fail("fsx is not installed: cargo install fsx --version 0.3.2 --locked")
        return
    os.environ["MASSFS_TEST_GC_AGE"] = suite.env["MASSFS_TEST_GC_AGE"] = "0"
    seeds = suite.args.seeds or (20 if suite.long else 1)
    operations = suite.args.operations or (10000 if suite.long else 2000)
    volume = suite.volume().format()
    for number in range(seeds):
        for place, name in enumerate(WEIGHTS):
            if suite.args.only and suite.args.only != name:
                continue
            seed = suite.seed + number
            opts = options(suite, seed + place)
            mount = volume.mount(opts)
            left = one(suite, mount, name, seed, operations)
            mount = mount.remount(opts)
            if left and mfs.digest(left[0]) != left[1]:
                suite.fail(f"{os.path.basename(left[0])} reads differently after a remount")
            if left:
                os.unlink(left[0])
            mount.umount()
            if suite.failures:
                print(f"       mounted with {opts}", flush=True)
                return
        volume.fsck()


def add_args(parser):
    parser.add_argument("--seeds", type=int, default=0, help="so many seeds, counted on from --seed")
    parser.add_argument("--operations", type=int, default=0)


if __name__ == "__main__":
    mfs.main("fsx", __doc__, body, add_args)
