#!/usr/bin/env python3
"""Two and three mounts of one volume on MinIO, MongoDB and Redis: what one does the others see, in time; writers and appenders; a random
concurrent workload whose history is judged."""
import errno
import os
import random
import statistics
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import crash
import game
import mfs
from cluster import NEWS, NEWS_CUT
from mfs import check, get, noise, put, raises, same, wait_for
from workers import together
from worlds import other_world, read_or_none, run_cases, stat_or_none


def seen_after(condition, limit):
    """Seconds until it holds, from now on."""
    start = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - start
        if time.monotonic() - start > limit:
            return None


def xattr_or_none(path, name):
    try:
        return os.getxattr(path, name)
    except OSError:
        return None


# ---- what one does the others see

def changes(a, b, n):
    """(name, what B does before, so that it has it in its caches, what A does, what B must see)."""
    f, g, d = f"f{n}", f"g{n}", f"d{n}"
    one, two, big = noise(n, 9000), noise(n + 1000, 9000), noise(n + 2000, 300000)
    when = 10**18 + n
    yield "create", lambda: stat_or_none(f"{b}/{f}"), lambda: put(f"{a}/{f}"), lambda: stat_or_none(f"{b}/{f}")
    yield "write", lambda: get(f"{b}/{f}"), lambda: put(f"{a}/{f}", one), lambda: get(f"{b}/{f}") == one
    yield "rewrite", lambda: get(f"{b}/{f}"), lambda: put(f"{a}/{f}", two), lambda: get(f"{b}/{f}") == two
    yield "write 300 KB", lambda: get(f"{b}/{f}"), lambda: put(f"{a}/{f}", big), lambda: get(f"{b}/{f}") == big
    yield "chmod", lambda: os.stat(f"{b}/{f}"), lambda: os.chmod(f"{a}/{f}", 0o751), lambda: os.stat(f"{b}/{f}").st_mode & 0o777 == 0o751
    yield ("utime", lambda: os.stat(f"{b}/{f}"), lambda: os.utime(f"{a}/{f}", ns=(when, when)),
           lambda: os.stat(f"{b}/{f}").st_mtime_ns == when)
    yield ("setxattr", lambda: xattr_or_none(f"{b}/{f}", "user.x"), lambda: os.setxattr(f"{a}/{f}", "user.x", b"%d" % n),
           lambda: xattr_or_none(f"{b}/{f}", "user.x") == b"%d" % n)
    yield "truncate", lambda: os.stat(f"{b}/{f}"), lambda: os.truncate(f"{a}/{f}", 77), lambda: os.stat(f"{b}/{f}").st_size == 77
    yield "link", lambda: os.stat(f"{b}/{f}"), lambda: os.link(f"{a}/{f}", f"{a}/{f}.l"), lambda: os.stat(f"{b}/{f}").st_nlink == 2
    yield ("rename", lambda: (stat_or_none(f"{b}/{f}"), stat_or_none(f"{b}/{g}")), lambda: os.rename(f"{a}/{f}", f"{a}/{g}"),
           lambda: stat_or_none(f"{b}/{g}") and not stat_or_none(f"{b}/{f}"))
    put(f"{a}/{f}.new", b"replaces")
    yield ("rename over", lambda: get(f"{b}/{g}"), lambda: os.rename(f"{a}/{f}.new", f"{a}/{g}"),
           lambda: get(f"{b}/{g}") == b"replaces")
    yield "mkdir", lambda: os.listdir(b), lambda: os.mkdir(f"{a}/{d}"), lambda: d in os.listdir(b)
    yield "create below", lambda: os.listdir(f"{b}/{d}"), lambda: put(f"{a}/{d}/x", b"1"), lambda: os.listdir(f"{b}/{d}") == ["x"]
    yield ("rename dir", lambda: get(f"{b}/{d}/x"), lambda: os.rename(f"{a}/{d}", f"{a}/{d}.to"),
           lambda: read_or_none(f"{b}/{d}.to/x") == b"1" and not stat_or_none(f"{b}/{d}"))
    yield "unlink", lambda: get(f"{b}/{g}"), lambda: os.unlink(f"{a}/{g}"), lambda: not stat_or_none(f"{b}/{g}")
    yield "symlink", lambda: stat_or_none(f"{b}/{g}"), lambda: os.symlink("to", f"{a}/{g}"), lambda: os.path.islink(f"{b}/{g}")
    os.unlink(f"{a}/{d}.to/x")
    yield "rmdir", lambda: os.stat(f"{b}/{d}.to"), lambda: os.rmdir(f"{a}/{d}.to"), lambda: not stat_or_none(f"{b}/{d}.to")


def visibility(w, name, bound, rounds):
    """Every kind of change, in turn from each mount to another. The middle of the samples is within the bound, and every one within
    ten times of it (the machine has other work); both ten times longer under a sanitizer.
    """
    where = w.dir(name)
    found = {}
    for n in range(rounds):
        a, b = where[n % len(where)], where[(n + 1) % len(where)]
        for kind, before, change, after in changes(a, b, n):
            limit = 10 * bound * w.slow
            wait_for(lambda: len(os.listdir(a)) == len(os.listdir(b)), 20, "both to agree before the next one")
            before()
            change()
            took = seen_after(lambda: quietly(after), limit)
            check(took is not None, f"{kind} of round {n}: not seen by the other mount within {limit:.1f} s")
            found.setdefault(kind, []).append(took * 1000)
    every = [t for times in found.values() for t in times]
    print("       ms until seen, middle/worst: " +
          ", ".join(f"{k} {statistics.median(v):.0f}/{max(v):.0f}" for k, v in found.items()), flush=True)
    middle = statistics.median(every)
    check(middle <= bound * 1000 * w.slow, f"in the middle {middle:.0f} ms, more than {bound * w.slow} s")


def quietly(call):
    try:
        return call()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise


def case_seen_with_redis(w):
    visibility(w, "seen", NEWS, 20 if w.long else 5)


def case_seen_by_an_open_file(w):
    """Attributes and pages of a file that is held open follow, without a reopen."""
    where = w.dir("open")
    put(f"{where[0]}/f", b"a" * 20000)
    wait_for(lambda: stat_or_none(f"{where[1]}/f"), 5 * w.slow, "the file at the other mount")
    fd = os.open(f"{where[1]}/f", os.O_RDONLY)
    same(os.pread(fd, 20000, 0), b"a" * 20000, "before")
    put(f"{where[0]}/f", b"b" * 30000)
    wait_for(lambda: os.fstat(fd).st_size == 30000, 10 * NEWS * w.slow, "the size")
    wait_for(lambda: os.pread(fd, 30000, 0) == b"b" * 30000, 10 * NEWS * w.slow, "the bytes")
    os.close(fd)


def case_unlinked_elsewhere_stays_readable(w):
    where = w.dir("unlinked")
    data = noise(5, 700000)
    put(f"{where[0]}/f", data)
    put(f"{where[0]}/g", data)
    wait_for(lambda: stat_or_none(f"{where[1]}/g"), 5 * w.slow, "the files at the other mount")
    fd, gd = (os.open(f"{where[1]}/{n}", os.O_RDWR) for n in "fg")
    same(os.pread(fd, 100, 0), data[:100], "at the open")
    os.unlink(f"{where[0]}/f")
    put(f"{where[0]}/new", b"other")
    os.rename(f"{where[0]}/new", f"{where[0]}/g")
    wait_for(lambda: not stat_or_none(f"{where[1]}/f"), 10 * NEWS * w.slow, "the unlink")
    for d in (fd, gd):
        same(os.pread(d, 700000, 0), data, "all of it, after it was unlinked elsewhere")
        os.pwrite(d, b"mine", 10)
        os.fsync(d)
        same(os.pread(d, 4, 10), b"mine", "what was written since")
        os.close(d)
    same(get(f"{where[1]}/g"), b"other", "what took its place")


def case_directory_removed_under_another(w):
    where = w.dir("rmdir")
    for n in range(5):
        os.mkdir(f"{where[0]}/d")
        wait_for(lambda: stat_or_none(f"{where[1]}/d"), 5 * w.slow, "the directory")
        fd = os.open(f"{where[1]}/d", os.O_RDONLY | os.O_DIRECTORY)
        os.rmdir(f"{where[0]}/d")
        raises((errno.ENOENT, errno.ESTALE), os.open, f"{where[1]}/d/x", os.O_CREAT | os.O_WRONLY, 0o644)
        raises((errno.ENOENT, errno.ESTALE), os.open, "x", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
        os.close(fd)
        same(os.listdir(where[0]), [], "left")


# ---- names that another mount has just moved

def make_file(path):
    put(path, path.encode()[-40:])


def rounds_of_moves(w, rounds):
    """(number, old and new name below each of two mounts): files and directories, within a directory and between two. In the end it is
    third<number> beside the new name."""
    a, b = w.dir("moved")[:2]
    for name in ("x", "y"):
        os.mkdir(f"{a}/{name}")
    wait_for(lambda: sorted(os.listdir(b)) == ["x", "y"], 5 * w.slow, "the directories")
    for n in range(rounds):
        for make, to in ((make_file, "x"), (os.mkdir, "x"), (make_file, "y"), (os.mkdir, "y")):
            old, new = f"x/old{n}", f"{to}/new{n}"
            make(f"{b}/{old}")
            wait_for(lambda: stat_or_none(f"{a}/{old}"), 5 * w.slow, f"{old} at the other mount")
            yield n, f"{a}/{old}", f"{a}/{new}", f"{b}/{old}", f"{b}/{new}"
            (os.rmdir if make == os.mkdir else os.unlink)(f"{a}/{to}/third{n}")


def renames_of_moved_names(w, rounds):
    """The kernel still knows the old name, and looks the new one up: both are one inode, and a rename between them would do nothing and
    be called done. The name is gone, and rename says so; whoever only looks finds the new one, at any time.
    """
    for n, a_old, a_new, b_old, b_new in rounds_of_moves(w, rounds):
        if n % 4 == 3:  # it takes the place of another one, which that kernel knows too
            (os.mkdir if os.path.isdir(b_old) else make_file)(b_new)
            wait_for(lambda: stat_or_none(a_new), 5 * w.slow, "what is replaced at the other mount")
        os.stat(a_old)
        os.rename(b_old, b_new)
        if n % 4 == 1:
            os.stat(a_new)
        if n % 4 == 2:
            raises(errno.ENOENT, mfs.renameat2, a_old, a_new, mfs.RENAME_EXCHANGE)
        raises(errno.ENOENT, os.rename, a_old, a_new)
        os.stat(a_new)
        raises(errno.ENOENT, os.rename, a_old, a_new)
        third = f"{os.path.dirname(a_new)}/third{n}"
        os.rename(a_new, third)
        os.stat(third)
        check(not stat_or_none(b_old), "the old name is gone where it was moved")


def case_rename_of_a_name_that_was_moved(w):
    renames_of_moved_names(w, 200 if w.long else 6 if w.suite.sanitizer else 20)


def case_moved_there_and_back(w):
    """Both mounts move one file between the same two names: each move is made by one of them."""
    a, b = w.dir("back")[:2]
    make_file(f"{a}/one")
    wait_for(lambda: stat_or_none(f"{b}/one"), 5 * w.slow, "the file")
    for n in range(400 if w.long else 20 if w.suite.sanitizer else 60):
        one, two = ("one", "two") if n % 2 == 0 else ("two", "one")
        first, other = (a, b) if n % 3 == 0 else (b, a)
        os.stat(f"{other}/{one}")
        os.rename(f"{first}/{one}", f"{first}/{two}")
        raises(errno.ENOENT, os.rename, f"{other}/{one}", f"{other}/{two}")
        check(stat_or_none(f"{other}/{two}"), "it is found by its new name")


def case_renames_between_hard_links(w):
    """As POSIX has it they do nothing: both names stay, whichever mount has made them, and whoever has just looked at them."""
    a, b = w.dir("links")[:2]
    for n in range(100 if w.long else 10 if w.suite.sanitizer else 25):
        make_file(f"{b}/f{n}")
        wait_for(lambda: stat_or_none(f"{a}/f{n}"), 5 * w.slow, "the file")
        at = (a, b)[n % 2]
        os.link(f"{at}/f{n}", f"{at}/l{n}")
        if n % 3 == 1:
            os.listdir(a)
            os.stat(f"{a}/f{n}")
        wait_for(lambda: stat_or_none(f"{a}/l{n}"), 10 * NEWS * w.slow, "the link")
        os.rename(f"{a}/f{n}", f"{a}/l{n}")
        os.rename(f"{a}/l{n}", f"{a}/f{n}")
        for path in (a, b):
            same(sorted(x for x in os.listdir(path) if x in (f"f{n}", f"l{n}")), [f"f{n}", f"l{n}"], f"names at {path}")
            same(os.stat(f"{path}/f{n}").st_ino, os.stat(f"{path}/l{n}").st_ino, "one file")


# ---- writers

def case_concurrent_writers(w):
    """The last committer wins, byte by byte; rewrites leave a version."""
    if w.suite.plain:
        raise mfs.Skip("on a bare directory the last write wins, whoever closes last")
    where = w.dir("writers")
    size = 1 << 20
    for n, first in enumerate((0, 1)):
        put(f"{where[0]}/f{n}", b"." * size)
        wait_for(lambda: stat_or_none(f"{where[1]}/f{n}"), 5 * w.slow, "the file")
        fds = [os.open(f"{where[k]}/f{n}", os.O_RDWR) for k in range(2)]
        os.pwrite(fds[0], b"a" * 65536, 100000)
        os.pwrite(fds[1], b"b" * 65536, 100000 + 32768)
        os.close(fds[first])
        os.close(fds[1 - first])
        want = bytearray(b"." * size)
        for k in (first, 1 - first):
            want[100000 + 32768 * k:100000 + 32768 * k + 65536] = b"ab"[k:k + 1] * 65536
        for path in where:
            wait_for(lambda: get(f"{path}/f{n}") == want, 10 * NEWS * w.slow, f"the bytes at {path}")
    put(f"{where[0]}/r", b"before")
    wait_for(lambda: stat_or_none(f"{where[1]}/r"), 5 * w.slow, "the file")
    fds = [os.open(f"{where[k]}/r", os.O_WRONLY | os.O_TRUNC) for k in range(2)]
    os.write(fds[0], b"first " * 1000)
    os.write(fds[1], b"second " * 2000)
    os.close(fds[0])
    os.close(fds[1])
    for path in where:
        wait_for(lambda: get(f"{path}/r") == b"second " * 2000, 10 * NEWS * w.slow, f"the last one's content at {path}")
    text = w.suite.massfs("versions", f"{where[0]}/r")[1]
    check(len(text.strip().splitlines()) >= 3, f"what was replaced is a version: {text}")


def append_lines(path, who, lines, seed):
    """As a logger: some lines a write, an fsync now and then, reopened now and then; and its own slots of the head by pwrite."""

    rng = random.Random(seed)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    slot = os.open(path, os.O_WRONLY)
    n = 0
    while n < lines:
        text = b""
        for _ in range(rng.randrange(1, 4)):
            text += f"{who} {n} {'x' * rng.randrange(200)}\n".encode()
            n += 1
        check(os.write(fd, text) == len(text), "a short write")
        what = rng.random()
        if what < 0.1:
            os.fsync(fd)
        elif what < 0.2:
            os.close(fd)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        elif what < 0.4:
            os.pwrite(slot, struct.pack("<q", n), who * 64 + 8 * rng.randrange(8))
    os.pwrite(slot, struct.pack("<q", n) * 8, who * 64)
    os.close(fd)
    os.close(slot)
    return n


def case_appenders_lose_no_line(w):
    """From every mount, with pwrites into the head between them."""
    where = w.dir("append")
    head = 4096
    put(f"{where[0]}/log", b"\0" * (head - 1) + b"\n")
    for path in where:
        wait_for(lambda: (stat_or_none(f"{path}/log") or os.stat("/")).st_size == head, 5 * w.slow, "the log")
    lines = 2000 if w.long else 150
    done = together([(append_lines, f"{where[k % len(where)]}/log", k, lines, w.rng.random()) for k in range(6)],
                    seconds=(600 if w.long else 120) * (3 if w.slow > 1 else 1))
    for path in where:
        wait_for(lambda: os.stat(f"{path}/log").st_size == os.stat(f"{where[0]}/log").st_size, 10 * NEWS * w.slow, "one size")
        data = get(f"{path}/log")
        for k, n in enumerate(done):
            same(data[64 * k:64 * k + 64], struct.pack("<q", n) * 8, f"slot of writer {k} at {path}")
        found = [[] for _ in done]
        for line in data[head:].splitlines():
            words = line.split(b" ")
            check(len(words) == 3 and words[0].isdigit() and int(words[0]) < len(done), f"a broken line: {line[:80]!r}")
            found[int(words[0])].append(int(words[1]))
        for k, n in enumerate(done):
            check(found[k] == list(range(n)), f"writer {k} at {path}: {n} lines written, {len(found[k])} found, "
                  f"missing {sorted(set(range(n)) - set(found[k]))[:5]}, twice {[x for x in set(found[k]) if found[k].count(x) > 1][:5]}")


# ---- everything at once

def case_random_workload_with_a_history(w):
    game.play(w, w.dir("game"), w.suite.args.seconds or (1800 if w.long else 120 if not w.suite.sanitizer else 60))


def case_space_is_counted_by_all(w):
    where = w.dir("space")
    if w.suite.plain:
        raise mfs.Skip("a bare directory shares the machine's disk")
    before = os.statvfs(where[1])
    put(f"{where[0]}/f", noise(1, 6 << 20))
    wait_for(lambda: (before.f_bfree - os.statvfs(where[1]).f_bfree) * before.f_frsize >= 6 << 20, 20, "6 MiB less at the other mount")


@other_world(n=1)
def case_a_compose_is_taken_over(w):
    """The mount whose reconciler composes a big file dies in it: another one sends only the parts that are missing."""
    suite = w.suite
    if suite.plain or not crash.crash_points(suite):
        raise mfs.Skip("no crash points in this build")
    w.m[0].umount()
    env = {**suite.env, "MASSFS_TEST_KEEP_MIN": "1"}
    a = w.cluster.mount("m1", env={**env, "MASSFS_CRASH_AT": "compose.part:6"})
    wait_for(lambda: "reconciler" in suite.massfs("status", a.path)[1].rpartition("does:")[2], 30, "the first mount to have the reconciler")
    b = w.cluster.mount("m2", env=env)
    size, data = 64 << 20, bytearray(noise(1, 64 << 20))
    put(f"{a.path}/big", data)
    with open(f"{a.path}/big", "r+b", buffering=0) as file:
        for off in range(3 << 20, size, 9 << 20):
            data[off:off + 1000] = noise(off, 1000)
            os.pwrite(file.fileno(), data[off:off + 1000], off)
    subprocess.run([*suite.command(), "settle", "--wait", a.path], capture_output=True, check=False, timeout=120)
    wait_for(lambda: not a.alive(), 10, "the death of the first mount in its compose")
    a.kill()
    start = time.monotonic()
    suite.massfs("settle", "--wait", b.path, timeout=120)
    sent = suite.massfs_json("status", b.path)["reconciler"]["copied_bytes"]
    print(f"       settled {time.monotonic() - start:.1f} s after the death, {sent >> 20} of {size >> 20} MiB moved", flush=True)
    check(0 < sent <= size - (6 * 5 << 20), f"{sent} bytes were moved after 6 parts of {size} had been")
    check(get(f"{b.path}/big") == data, "other bytes")
    check(w.cluster.servers.bucket.get(f"{w.cluster.volume.prefix}big") == data, "the object has other bytes")
    left = w.cluster.servers.bucket.request("GET", query="prefix=big&uploads=").decode()
    check("<UploadId>" not in left, f"an unfinished upload is left: {left}")


# ---- without Redis, and with the news cut

@other_world(with_redis=False, redis=False)
def case_seen_by_the_change_stream_alone(w):
    visibility(w, "stream", NEWS, 20 if w.long else 3)


def cut_news(w):
    """Neither Redis nor the change stream says anything from now on."""
    if not w.suite.plain:
        w.cluster.proxies["redis"].cut()
        w.cluster.proxies["mongo"].on("^watch", "hold", times=-1)
        time.sleep(2)  # so that what was under way has been told


@other_world(proxied=("mongo", "redis"))
def case_rename_of_a_name_that_was_moved_unheard(w):
    """No news come in time: whatever is known of the old name is known from the mount's own lookups."""
    cut_news(w)
    renames_of_moved_names(w, 50 if w.long else 4)


@other_world(proxied=("mongo", "redis"))
def case_seen_with_the_news_cut(w):
    """Within a second, opens included."""
    cut_news(w)
    visibility(w, "cut", NEWS_CUT, 10 if w.long else 2)
    if not w.suite.plain:
        w.cluster.servers.restore()
        for proxy in w.cluster.servers.all_proxies():
            proxy.reset()  # what was held is not answered any more
        time.sleep(1)
    visibility(w, "back", NEWS * (3 if w.suite.plain else 1), 2)


if __name__ == "__main__":
    mfs.main("mounts", __doc__, lambda suite: run_cases(suite, globals()),
             lambda p: p.add_argument("--seconds", type=int, default=0, help="of the random workload"))
