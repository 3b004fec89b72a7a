#!/usr/bin/env python3
"""fsx 0.3.2 on whole-file configurations: mmap on and off, with close/open, a new seed each run.

Operations inside the layout of a file (fallocate, punch hole, copy_file_range) are off: see tests/README.md.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs

# Weights: what is not named is 0. Bigger files cross the part size of 5 MiB.
WEIGHTS = {
    "mmap": dict(read=10, write=10, mapread=10, mapwrite=10, truncate=5, close_open=3, invalidate=1, fsync=1,
                 fdatasync=1, sendfile=1, posix_fadvise=1),
    "no-mmap": dict(read=10, write=10, mapread=0, mapwrite=0, truncate=5, close_open=3, invalidate=0, fsync=1,
                    fdatasync=1, sendfile=1, posix_fadvise=1),
    "rare-close": dict(read=10, write=10, mapread=5, mapwrite=5, truncate=5, close_open=0.2, invalidate=1, fsync=0.1),
    "big": dict(read=10, write=10, mapread=3, mapwrite=3, truncate=2, close_open=2, invalidate=1, fsync=0.5),
}
SIZES = {"big": (12 << 20, 1 << 20)}  # file and operation; default 256 KiB and 64 KiB
ALL = ("close_open", "invalidate", "mapread", "mapwrite", "read", "write", "truncate", "fsync", "fdatasync",
       "posix_fallocate", "punch_hole", "sendfile", "posix_fadvise", "copy_file_range")


def config_text(name):
    flen, opsize = SIZES.get(name, (256 << 10, 64 << 10))
    weights = "\n".join(f"{key} = {float(WEIGHTS[name].get(key, 0))}" for key in ALL)
    return f"flen = {flen}\n[opsize]\nmax = {opsize}\n[weights]\n{weights}\n"


def one(suite, mount, name, seed, operations):
    if name == "big":
        operations = max(300, operations // 5)
    config = suite.path(f"fsx-{name}.toml")
    mfs.put(config, config_text(name).encode())
    artifacts = suite.path("fsx")
    os.makedirs(artifacts, exist_ok=True)
    target = f"{mount.path}/fsx-{name}-{seed}"
    command = ["fsx", "-q", "-N", str(operations), "-S", str(seed), "-P", artifacts, "-f", config, target]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=1500, check=False)
    if done.returncode:
        text = done.stdout.decode("utf-8", "replace")
        why = {1: "miscompare", 101: "a system call failed"}.get(done.returncode, "")
        suite.fail(f"fsx {name}, seed {seed}: exit code {done.returncode} {why}\n{text[-3000:]}")
        return
    content = mfs.digest(target)
    print(f"ok     {name}, seed {seed}, {operations} operations, {os.stat(target).st_size} bytes left", flush=True)
    return target, content


def body(suite):
    if mfs.shutil.which("fsx") is None:
        suite.fail("fsx is not installed: cargo install fsx --version 0.3.2 --locked")
        return
    seeds = suite.args.seeds or (10 if suite.long else 1)
    operations = suite.args.operations or (5000 if suite.long else 2000)
    volume = suite.volume().format()
    mount = volume.mount("allow_other")
    for number in range(seeds):
        left = []
        for name in WEIGHTS:
            if not suite.args.only or suite.args.only == name:
                left.append(one(suite, mount, name, suite.seed + number, operations))
        mount = mount.remount("allow_other")
        for target, content in filter(None, left):
            if mfs.digest(target) != content:
                suite.fail(f"{os.path.basename(target)} reads differently after a remount")
            os.unlink(target)
    mount.umount()
    volume.fsck()


def add_args(parser):
    parser.add_argument("--seeds", type=int, default=0, help="so many seeds, counted on from --seed")
    parser.add_argument("--operations", type=int, default=0)


if __name__ == "__main__":
    mfs.main("fsx", __doc__, body, add_args)
