#!/usr/bin/env python3
"""Scattered writes of 4 KiB, each with an fsync, into a file of 1 GiB: the price of a change stays that of the change.

Judged: slices <= 65,536; the file's index record <= 64 KiB; bytes stored <= 12 x bytes written; the mean of the last 1,000
fsyncs under 2 x that of the first 1,000 after the first 4 MiB (1,024 writes). The machine is another one an hour later, so
the last ones are measured in turns with the first ones of a second file, made for that; last_to_first, which compares with
those at the beginning, is only printed. Then the file is compared byte for byte, after
a remount and after settle --wait, when it is one native object. The figures are printed as one line of JSON.
"""
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Failure, check, same

PAGE = 4096
BLOCK = 4 << 20
FIRST = 1024  # writes: the first 4 MiB


class Model:
    """What the file must read: blocks from a seed, and which write each page has from."""

    def __init__(self, seed, size):
        self.seed, self.size = seed, size
        self.pages = {}

    def block(self, number):
        return random.Random(f"{self.seed} {number}").randbytes(BLOCK)

    def page(self, number):
        return random.Random(f"{self.seed} page {number}").randbytes(PAGE)

    def compare(self, path, when):
        by_block = {}
        for page, write in self.pages.items():
            by_block.setdefault(page * PAGE // BLOCK, []).append((page * PAGE % BLOCK, write))
        with open(path, "rb", buffering=0) as file:
            for number in range(self.size // BLOCK):
                want = bytearray(self.block(number))
                for offset, write in by_block.get(number, ()):
                    want[offset:offset + PAGE] = self.page(write)
                got = file.read(BLOCK)
                if got != want:
                    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
                    raise Failure(f"{when}: byte {number * BLOCK + at} of {path} is wrong ({len(got)} bytes read)")
            check(not file.read(1), f"{when}: {path} is longer than {self.size}")


class Scattered:
    def __init__(self, suite):
        self.suite = suite
        self.n = suite.args.writes or (100_000 if suite.long else 5_000)
        self.size = (suite.args.mib or 1024) << 20
        self.model = Model(suite.seed, self.size)
        self.volume = suite.volume().format()
        self.mount = self.volume.mount("allow_other,retention=0")
        self.path = f"{self.mount.path}/file"
        self.fresh = f"{self.mount.path}/fresh"
        self.span = min(1000, (self.n - FIRST) // 3)

    def make(self):
        for path, size in ((self.path, self.size), (self.fresh, self.size // 4)):
            with open(path, "wb", buffering=0) as file:
                for number in range(size // BLOCK):
                    check(file.write(self.model.block(number)) == BLOCK, "short write")
        self.volume.settle(self.mount)

    def figures(self):
        """bytes_stored, bytes_copied, state, slices, record_bytes, ... of now."""
        info = self.suite.massfs_json("info", self.path)
        return {**self.suite.massfs_json("status", self.mount.path), **info, **info["layout"]}

    @staticmethod
    def timed(fd, page, data):
        start = time.monotonic()
        check(os.pwrite(fd, data, page * PAGE) == PAGE, "short write")
        os.fsync(fd)
        return time.monotonic() - start

    def fresh_ones(self, rng, fd):
        """The fsyncs of a file that has had its first 4 MiB of changes."""
        data = rng.randbytes(PAGE)
        for _ in range(FIRST):
            self.timed(fd, rng.randrange(self.size // 4 // PAGE), data)
        return lambda: self.timed(fd, rng.randrange(self.size // 4 // PAGE), data)

    def write(self):
        """The durations of the fsyncs, those of the fresh file beside the last, and the most that the record and its slices
        ever were."""
        rng = random.Random(f"{self.suite.seed} offsets")
        took, beside, self.most = [], [], {"slices": 0, "record_bytes": 0}
        fd, fresh_fd = os.open(self.path, os.O_RDWR), os.open(self.fresh, os.O_RDWR)
        self.stored = -self.stored_now()
        for number in range(self.n):
            page = rng.randrange(self.size // PAGE)
            self.model.pages[page] = number
            if number == self.n - self.span:
                self.stored += self.stored_now()
                fresh = self.fresh_ones(random.Random(f"{self.suite.seed} fresh"), fresh_fd)
            if number >= self.n - self.span:
                beside.append(fresh())
            took.append(self.timed(fd, page, self.model.page(number)))
            if number % 500 == 499:
                now = self.figures()
                for key in self.most:
                    self.most[key] = max(self.most[key], now[key])
        os.close(fd)
        os.close(fresh_fd)
        return took, beside

    def stored_now(self):
        now = self.figures()
        return now["bytes_stored"] + now["bytes_copied"]

    def run(self):
        check(self.span >= 100, "too few writes to judge by: --writes 2000 or more")
        self.make()
        took, beside = self.write()
        first, last, fresh = (sum(t) / self.span for t in (took[FIRST:FIRST + self.span], took[-self.span:], beside))
        result = {"writes": self.n, "slices": self.most["slices"], "record_bytes": self.most["record_bytes"],
                  "stored_per_written": round(self.stored / ((self.n - self.span) * PAGE), 2),
                  "fsync_first_ms": round(first * 1e3, 3), "fsync_last_ms": round(last * 1e3, 3),
                  "fsync_fresh_ms": round(fresh * 1e3, 3), "fsync_max_ms": round(max(took) * 1e3, 1),
                  "last_to_first": round(last / first, 2), "last_to_fresh": round(last / fresh, 2)}
        print(json.dumps(result), flush=True)
        self.judge(result)
        self.model.compare(self.path, "before the remount")
        self.mount = self.mount.remount("allow_other,retention=0")
        self.model.compare(self.path, "after the remount")
        start = time.monotonic()
        self.volume.settle(self.mount)
        settled = self.suite.massfs_json("info", self.path)
        same(settled["state"], "settled", "state after settle --wait")
        self.mount.umount()
        self.model.compare(os.fsdecode(self.volume.object("file")), "the native object")
        print(f"ok     settled in {time.monotonic() - start:.1f} s, byte for byte at objects/file", flush=True)
        self.volume.fsck()

    def judge(self, result):
        for key, limit in (("slices", 65536), ("record_bytes", 65536), ("stored_per_written", 12)):
            if result[key] > limit:
                self.suite.fail(f"{key} is {result[key]}, more than {limit}")
        # A sanitizer's own bookkeeping grows.
        if result["last_to_fresh"] >= 2 and not self.suite.sanitizer:
            self.suite.fail(f"the last fsyncs took {result['last_to_fresh']} x those of a file with few changes")


def body(suite):
    if suite.plain:
        raise mfs.Skip("needs massfs")
    Scattered(suite).run()


def add_args(parser):
    parser.add_argument("--writes", type=int, default=0)
    parser.add_argument("--mib", type=int, default=0, help="size of the file; default 1024")


if __name__ == "__main__":
    mfs.main("scattered", __doc__, body, add_args)
