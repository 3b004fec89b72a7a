#!/usr/bin/env python3
"""Two and three mounts of one volume on MinIO, MongoDB and Redis: what one does the others see, in time; locks; appenders; a mount
that dies or freezes; a random concurrent workload whose history is checked."""
import errno
import fcntl
import os
import signal
import sqlite3
import statistics
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cluster
import game
import mfs
from cluster import LEASE, NEWS, NEWS_CUT
from mfs import check, get, noise, put, raises, same, wait_for
from workers import Worker, together


class World:
    """One volume and its mounts, for all cases of a kind; a mount that a case has killed is there again for the next one."""

    def __init__(self, suite, name, n=3, more="", **kwargs):
        self.suite = suite
        self.long = suite.long
        self.rng = suite.rng
        self.slow = 10 if suite.sanitizer else 1
        self.cluster = cluster.Cluster(suite, suite.path(name), more=more, **kwargs)
        self.m = self.cluster.mounts(n)

    def need(self):
        for n, mount in enumerate(self.m):
            if not mount.alive() or mount not in self.suite.mounts:
                self.m[n] = self.cluster.mount(os.path.basename(mount.path))

    def dir(self, name):
        """A new directory, as a path below each mount."""
        os.mkdir(f"{self.m[0].path}/{name}")
        paths = [f"{m.path}/{name}" for m in self.m]
        for path in paths:
            wait_for(lambda p=path: os.path.isdir(p), 5 * self.slow, f"{path} to be seen")
        return paths


def seen_after(condition, limit):
    """Seconds until it holds, from now on."""
    start = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - start
        if time.monotonic() - start > limit:
            return None


def stat_or_none(path):
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def read_or_none(path):
    try:
        return get(path)
    except FileNotFoundError:
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
    import random
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


# ---- locks

def lock_flags(kind, exclusive, wait):
    return (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)


def lock(fd, kind, exclusive=True, wait=False, start=0, length=0):
    if kind == "flock":
        fcntl.flock(fd, lock_flags(kind, exclusive, wait))
    else:
        fcntl.lockf(fd, lock_flags(kind, exclusive, wait), length, start)


def unlock(fd, kind, start=0, length=0):
    if kind == "flock":
        fcntl.flock(fd, fcntl.LOCK_UN)
    else:
        fcntl.lockf(fd, fcntl.LOCK_UN, length, start)


def try_lock(path, kind, exclusive=True, start=0, length=0):
    """In a process of its own: True, or False when somebody else has it."""
    fd = os.open(path, os.O_RDWR)
    try:
        lock(fd, kind, exclusive, False, start, length)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def wait_lock(path, kind, start=0, length=0):
    """Waits, and tells when it had it, and what was in the file then."""
    fd = os.open(path, os.O_RDWR)
    os.pread(fd, 100, 0)  # in the page cache, from before
    lock(fd, kind, True, True, start, length)
    when = time.monotonic()
    data = os.pread(fd, 100, 0)
    os.close(fd)
    return when, data


def case_locks_are_seen_by_all(w):
    where = w.dir("locks")
    for kind in ("flock", "fcntl"):
        name = f"f-{kind}"
        put(f"{where[0]}/{name}", b"before" + bytes(94))
        for path in where:
            wait_for(lambda: stat_or_none(f"{path}/{name}"), 5 * w.slow, "the file")
        fd = os.open(f"{where[0]}/{name}", os.O_RDWR)
        elsewhere = [f"{p}/{name}" for p in where[1:]]
        lock(fd, kind, True)
        for path in elsewhere:
            same(Worker(try_lock, path, kind, False).result(), False, f"{kind}: a shared lock while another mount has it alone")
        unlock(fd, kind)
        same(Worker(try_lock, elsewhere[0], kind).result(), True, f"{kind}: after the unlock")
        lock(fd, kind, False)
        same(Worker(try_lock, elsewhere[0], kind, False).result(), True, f"{kind}: shared with shared")
        same(Worker(try_lock, elsewhere[0], kind, True).result(), False, f"{kind}: alone with shared")
        lock(fd, kind, True)
        waiting = [Worker(wait_lock, path, kind) for path in elsewhere]
        time.sleep(0.3)
        check(not any(x.poll() for x in waiting), f"{kind}: a lock was given while another has it")
        os.pwrite(fd, b"mine!!", 0)
        start = time.monotonic()
        os.close(fd)  # a close lets it go, and is a fence for data
        for x in waiting:
            when, data = x.result()
            check(when - start < 1 * w.slow, f"{kind}: given {when - start:.2f} s after the close")
            same(data[:6], b"mine!!", f"{kind}: what was written under the lock")


def case_ranges_of_locks(w):
    where = w.dir("ranges")
    put(f"{where[0]}/f", bytes(1000))
    wait_for(lambda: stat_or_none(f"{where[1]}/f"), 5 * w.slow, "the file")
    fd = os.open(f"{where[0]}/f", os.O_RDWR)
    lock(fd, "fcntl", True, False, 100, 100)
    other = f"{where[1]}/f"
    for start, length, free in ((0, 100, True), (99, 2, False), (150, 1, False), (199, 1, False), (200, 10, True), (0, 0, False)):
        same(Worker(try_lock, other, "fcntl", True, start, length).result(), free, f"range {start}+{length}")
    unlock(fd, "fcntl", 140, 20)  # in two
    same(Worker(try_lock, other, "fcntl", True, 140, 20).result(), True, "the hole")
    same(Worker(try_lock, other, "fcntl", True, 139, 2).result(), False, "the left part")
    lock(fd, "fcntl", False, False, 100, 40)  # downgraded
    same(Worker(try_lock, other, "fcntl", False, 100, 40).result(), True, "shared after the downgrade")
    pid = Worker(held_by, other).result()
    same(pid, True, "F_GETLK tells of a lock that another mount has")
    second = os.open(f"{where[0]}/f", os.O_RDONLY)
    os.close(second)  # POSIX: any close lets all of the process's locks on the file go
    same(Worker(try_lock, other, "fcntl").result(), True, "after a close of another descriptor")
    os.close(fd)


def held_by(path):
    fd = os.open(path, os.O_RDWR)
    ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, ask))
    os.close(fd)
    return answer[0] != fcntl.F_UNLCK


def take_both(first, second, path, ready, go):
    """Locks byte `first`, then waits for byte `second`; what came of it."""
    fd = os.open(path, os.O_RDWR)
    lock(fd, "fcntl", True, True, first, 1)
    os.write(ready, b"x")
    os.read(go, 1)
    try:
        lock(fd, "fcntl", True, True, second, 1)
        return "both"
    except OSError as error:
        return "EDEADLK" if error.errno == errno.EDEADLK else errno.errorcode[error.errno]
    finally:
        os.close(fd)


def case_deadlock_across_mounts(w):
    where = w.dir("deadlock")
    put(f"{where[0]}/f", bytes(10))
    wait_for(lambda: stat_or_none(f"{where[1]}/f"), 5 * w.slow, "the file")
    for n in range(3):
        ready, go = os.pipe(), os.pipe()
        pair = [Worker(take_both, k, 1 - k, f"{where[k]}/f", ready[1], go[0]) for k in range(2)]
        for _ in pair:
            os.read(ready[0], 1)
        os.write(go[1], b"xx")
        said = sorted(x.result(30 * (2 if w.slow > 1 else 1)) for x in pair)
        for fd in (*ready, *go):
            os.close(fd)
        check(said in (["EDEADLK", "both"], ["EDEADLK", "EDEADLK"]), f"two that wait for each other: {said}")


def case_waiting_for_a_lock_can_be_interrupted(w):
    where = w.dir("interrupt")
    put(f"{where[0]}/f", bytes(10))
    wait_for(lambda: stat_or_none(f"{where[1]}/f"), 5 * w.slow, "the file")
    fd = os.open(f"{where[0]}/f", os.O_RDWR)
    for kind in ("fcntl", "flock"):
        lock(fd, kind)
        waiting = Worker(wait_lock, f"{where[1]}/f", kind)
        time.sleep(0.5)
        start = time.monotonic()
        os.kill(waiting.pid, signal.SIGTERM)
        wait_for(waiting.poll, 5 * w.slow, f"{kind}: the end of one that waits and is killed")
        check(time.monotonic() - start < 5 * w.slow, "it took long")
        unlock(fd, kind)
        wait_for(lambda: Worker(try_lock, f"{where[2]}/f", kind).result(), 5 * w.slow, f"{kind}: nothing is left of the killed one")
    os.close(fd)


STORM_FILES, STORM_RANGES = 3, 4


def storm(paths, me, shared, until, seed, kind):
    """Takes and leaves locks at random. shared[process][file][range] tells what each believes to have: 0, 1 shared, 2 alone."""
    import random
    rng = random.Random(seed)
    fds = [os.open(p, os.O_RDWR) for p in paths]
    slots = STORM_FILES * STORM_RANGES
    count = 0
    while time.monotonic() < until:
        f, r = rng.randrange(STORM_FILES), rng.randrange(STORM_RANGES) if kind == "fcntl" else 0
        exclusive, wait = rng.random() < 0.5, rng.random() < 0.3
        try:
            lock(fds[f], kind, exclusive, wait, r * 10, 10)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.EDEADLK:
                raise
            continue
        at = f * STORM_RANGES + r
        shared[me * slots + at] = 2 if exclusive else 1
        for _ in range(rng.randrange(1, 20)):
            for other in range(8):
                if other != me:
                    has = shared[other * slots + at]
                    check(not has or not exclusive and has == 1, f"{kind}: process {me} has {'alone' if exclusive else 'shared'} "
                          f"what {other} has {'alone' if has == 2 else 'shared'}")
        count += 1
        shared[me * slots + at] = 0
        unlock(fds[f], kind, r * 10, 10)
    for fd in fds:
        os.close(fd)
    return count


def case_lock_storm(w):
    """8 processes on all mounts."""
    import mmap
    where = w.dir("storm")
    for n in range(STORM_FILES):
        put(f"{where[0]}/f{n}", bytes(100))
    for path in where:
        wait_for(lambda: len(os.listdir(path)) == STORM_FILES, 5 * w.slow, "the files")
    for kind in ("fcntl", "flock"):
        shared = mmap.mmap(-1, 8 * STORM_FILES * STORM_RANGES)
        until = time.monotonic() + (60 if w.long else 5)
        counts = together([(storm, [f"{where[k % len(where)]}/f{n}" for n in range(STORM_FILES)], k, shared, until, w.rng.random(), kind)
                           for k in range(8)], seconds=(60 if w.long else 5) + 60)
        print(f"       {kind}: {sum(counts)} locks taken, the least by one process {min(counts)}", flush=True)
        check(min(counts) > 0, f"{kind}: a process never had a lock: {counts}")
        for n in range(STORM_FILES):
            check(Worker(try_lock, f"{where[0]}/f{n}", kind).result(), f"{kind}: a lock is left after the storm")


def count_up(path, kind, times):
    fd = os.open(path, os.O_RDWR)
    for _ in range(times):
        lock(fd, kind, True, True)
        value = int(os.pread(fd, 20, 0))
        os.pwrite(fd, b"%-20d" % (value + 1), 0)
        unlock(fd, kind)
    os.close(fd)


def case_counter_under_locks(w):
    where = w.dir("counter")
    times = 1000 if w.long else 40
    for kind in ("fcntl", "flock"):
        put(f"{where[0]}/{kind}", b"%-20d" % 0)
        for path in where:
            wait_for(lambda: stat_or_none(f"{path}/{kind}"), 5 * w.slow, "the file")
        start = time.monotonic()
        together([(count_up, f"{path}/{kind}", kind, times) for path in where], seconds=(900 if w.long else 120) * (2 if w.slow > 1 else 1))
        print(f"       {kind}: {times * len(where) / (time.monotonic() - start):.0f} increments a second", flush=True)
        for path in where:
            wait_for(lambda: os.stat(f"{path}/{kind}"), 5, "it")
            fd = os.open(f"{path}/{kind}", os.O_RDWR)
            lock(fd, kind, True, True)
            same(int(os.pread(fd, 20, 0)), times * len(where), f"{kind}: the counter at {path}")
            os.close(fd)


def insert_rows(path, who, rows):
    db = sqlite3.connect(path, timeout=120, isolation_level=None)
    for n in range(rows):
        db.execute("begin immediate")
        total = db.execute("select total from sum").fetchone()[0]
        db.execute("insert into row values (?, ?, ?)", (who, n, "x" * (n % 3000)))
        db.execute("update sum set total = ?", (total + 1,))
        db.execute("commit")
    db.close()


def case_one_sqlite_from_two_mounts(w):
    where = w.dir("sqlite")[:2]
    db = sqlite3.connect(f"{where[0]}/db", isolation_level=None)
    db.execute("create table row (who, n, text, primary key (who, n))")
    db.execute("create table sum (total)")
    db.execute("insert into sum values (0)")
    db.close()
    wait_for(lambda: stat_or_none(f"{where[1]}/db"), 5 * w.slow, "the database")
    rows = 300 if w.long else 25
    together([(insert_rows, f"{path}/db", k, rows) for k, path in enumerate(where)], seconds=900 if w.long else 180)
    for path in where:
        db = sqlite3.connect(f"{path}/db", timeout=60)
        same(db.execute("pragma integrity_check").fetchall(), [("ok",)], f"integrity at {path}")
        same(db.execute("select count(*) from row").fetchone()[0], 2 * rows, f"rows at {path}")
        same(db.execute("select total from sum").fetchone()[0], 2 * rows, f"the sum at {path}")
        db.close()


# ---- everything at once

def case_random_workload_with_a_history(w):
    game.play(w, w.dir("game"), w.suite.args.seconds or (1800 if w.long else 120 if not w.suite.sanitizer else 60))


# ---- a mount that dies, a mount that freezes

def hold(path, kind, gone, ready):
    """Has a lock on `path`, an unlinked file open, another file half written; until it is killed."""
    fd = os.open(path, os.O_RDWR)
    lock(fd, kind)
    un = os.open(gone, os.O_RDWR | os.O_CREAT)
    os.write(un, b"u" * 100000)
    os.fsync(un)
    os.unlink(gone)
    half = os.open(f"{gone}.half", os.O_RDWR | os.O_CREAT)
    os.write(half, b"h" * 8000000)
    os.write(ready, b"x")
    time.sleep(3600)


def keep_busy(path, stop_at):
    """Every kind of call, over and over: the longest one."""
    worst, what = 0, ""
    n = 0
    while time.monotonic() < stop_at:
        for name, call in (("create", lambda: put(f"{path}/b", b"%d" % n)), ("read", lambda: get(f"{path}/b")),
                           ("rename", lambda: os.rename(f"{path}/b", f"{path}/c")), ("list", lambda: os.listdir(path)),
                           ("unlink", lambda: os.unlink(f"{path}/c"))):
            start = time.monotonic()
            call()
            took = time.monotonic() - start
            if took > worst:
                worst, what = took, name
        n += 1
        time.sleep(0.01)
    return worst, what, n


def case_a_mount_is_killed(w):
    """kill -9 of one of three: its locks are free within the lease (and a moment to see it), the others go on meanwhile."""
    where = w.dir("killed")
    os.mkdir(f"{where[0]}/busy")
    for kind in ("fcntl", "flock"):
        put(f"{where[0]}/{kind}", bytes(100))
    for path in where:
        wait_for(lambda: stat_or_none(f"{path}/flock"), 5 * w.slow, "the files")
    wait_for(lambda: stat_or_none(f"{where[1]}/busy"), 5 * w.slow, "the directory")
    ready = os.pipe()
    holders = [Worker(hold, f"{where[2]}/{kind}", kind, f"{where[2]}/gone-{kind}", ready[1]) for kind in ("fcntl", "flock")]
    for _ in holders:
        os.read(ready[0], 1)
    for kind in ("fcntl", "flock"):
        same(Worker(try_lock, f"{where[0]}/{kind}", kind).result(), False, "while the holder lives")
    allowed = LEASE + (10 if w.slow > 1 else 5)
    busy = Worker(keep_busy, f"{where[1]}/busy", time.monotonic() + allowed + 2)
    waiting = [Worker(wait_lock, f"{where[0]}/{kind}", kind) for kind in ("fcntl", "flock")]
    time.sleep(0.5)
    start = time.monotonic()
    if w.suite.plain:
        for x in holders:
            x.kill()
    else:
        w.m[2].kill()
    for x, kind in zip(waiting, ("fcntl", "flock")):
        when, _ = x.result(allowed + 5)
        print(f"       {kind}: free {when - start:.1f} s after the kill", flush=True)
        check(when - start < allowed, f"{kind}: free only {when - start:.1f} s after the kill; the lease is {LEASE} s")
    worst, what, n = busy.result(allowed + 30)
    print(f"       another mount meanwhile: {n} rounds, the longest call {worst:.2f} s ({what})", flush=True)
    check(worst <= LEASE, f"another mount stood still for {worst:.1f} s in {what}")
    for x in holders:
        x.kill()
    os.close(ready[0])
    os.close(ready[1])
    w.need()
    same(sorted(n for n in os.listdir(where[0]) if n.startswith("gone") and not n.endswith("half")), [], "names that were unlinked")
    if w.long and not w.suite.plain:
        nobody_holds_the_unlinked(w)


def nobody_holds_the_unlinked(w):
    """The trash knows no opener any more; what it kept goes as its retention ends."""
    client = w.cluster.servers.mongo_client()
    database = w.cluster.volume.database

    def openers():
        live = {s["_id"] for s in client.find(database, "sessions") if not s.get("closed")}
        return [t["_id"] for t in client.find(database, "trash") if set(t.get("openers") or ()) - live]

    wait_for(lambda: not openers(), 150, "the dead mount to be no opener of unlinked files")
    client.close()


def write_under_lock(path, ready, go):
    """Writes under a lock, and commits only when it is told to; what came of that, step by step."""
    fd = os.open(path, os.O_RDWR)
    lock(fd, "fcntl")
    os.pwrite(fd, b"frozen" * 100, 0)
    os.write(ready, b"x")
    os.read(go, 1)
    said = []
    for call in (lambda: os.fsync(fd), lambda: os.close(fd)):
        try:
            call()
            said.append("ok")
        except OSError as error:
            said.append(errno.errorcode[error.errno])
    return said


def case_a_frozen_mount_wakes(w):
    """Longer than its lease: it cannot commit under the lock it lost, and it recovers."""
    if w.suite.plain:
        raise mfs.Skip("a bare directory does not freeze")
    where = w.dir("frozen")
    put(f"{where[0]}/f", b"before" * 100)
    put(f"{where[0]}/other", b"1")
    for path in where:
        wait_for(lambda: stat_or_none(f"{path}/other"), 5 * w.slow, "the files")
    ready, go = os.pipe(), os.pipe()
    writer = Worker(write_under_lock, f"{where[2]}/f", ready[1], go[0])
    os.read(ready[0], 1)
    w.m[2].freeze()
    start = time.monotonic()
    when, data = Worker(wait_lock, f"{where[0]}/f", "fcntl").result(LEASE + 30)
    print(f"       the lock was free {when - start:.1f} s after the freeze", flush=True)
    same(data, (b"before" * 100)[:100], "what the next holder reads: nothing that was not committed")
    check(when - start < LEASE + (10 if w.slow > 1 else 5), "that took longer than the lease")
    fd = os.open(f"{where[0]}/f", os.O_RDWR)
    lock(fd, "fcntl")
    os.pwrite(fd, b"winner" * 100, 0)
    unlock(fd, "fcntl")
    os.close(fd)
    put(f"{where[1]}/other", b"meanwhile")
    w.m[2].thaw()
    os.write(go[1], b"x")
    said = writer.result(60 * (2 if w.slow > 1 else 1))
    check("EIO" in said, f"the frozen one's fsync and close under the lock it lost: {said}")
    for path in where:
        wait_for(lambda: get(f"{path}/f") == b"winner" * 100, 20, f"the winner's bytes at {path}")
    wait_for(lambda: read_or_none(f"{where[2]}/other") == b"meanwhile", 5 * w.slow, "the woken mount to follow again")
    patient(lambda: put(f"{where[2]}/again", b"recovered"), 20)
    patient(lambda: check(try_lock(f"{where[2]}/f", "fcntl"), "a lock at the woken mount"), 20)
    wait_for(lambda: read_or_none(f"{where[0]}/again") == b"recovered", 5 * w.slow, "what the woken mount wrote")
    for fd in (*ready, *go):
        os.close(fd)


def patient(call, seconds):
    cluster.patiently(call, seconds)


def case_space_is_counted_by_all(w):
    where = w.dir("space")
    if w.suite.plain:
        raise mfs.Skip("a bare directory shares the machine's disk")
    before = os.statvfs(where[1])
    put(f"{where[0]}/f", noise(1, 6 << 20))
    wait_for(lambda: (before.f_bfree - os.statvfs(where[1]).f_bfree) * before.f_frsize >= 6 << 20, 20, "6 MiB less at the other mount")


# ---- without Redis, and with the news cut

def other_world(case_bound):
    def make(call):
        call.world = case_bound
        return call
    return make


@other_world({"with_redis": False, "redis": False})
def case_seen_by_the_change_stream_alone(w):
    visibility(w, "stream", NEWS, 20 if w.long else 3)


@other_world({"proxied": ("mongo", "redis")})
def case_seen_with_the_news_cut(w):
    """Neither Redis nor the change stream says anything: within a second, opens included."""
    if not w.suite.plain:
        proxies = w.cluster.proxies
        proxies["redis"].cut()
        proxies["mongo"].on("^watch", "hold", times=-1)
        time.sleep(2)  # so that what was under way has been told
    visibility(w, "cut", NEWS_CUT, 10 if w.long else 2)
    if not w.suite.plain:
        w.cluster.servers.restore()
        for proxy in w.cluster.servers.all_proxies():
            proxy.reset()  # what was held is not answered any more
        time.sleep(1)
    visibility(w, "back", NEWS * (3 if w.suite.plain else 1), 2)


def body(suite):
    only = suite.args.only
    worlds = {}
    for name, call in list(globals().items()):
        if not name.startswith("case_") or only and only not in name:
            continue
        kwargs = getattr(call, "world", {})
        key = "mounts" if not kwargs else name[len("case_"):]
        start = time.monotonic()
        held = set(os.listdir("/proc/self/fd"))
        try:
            if key not in worlds:
                worlds[key] = World(suite, key, **kwargs)
            worlds[key].need()
            held = set(os.listdir("/proc/self/fd"))
            call(worlds[key])
            print(f"ok     {name[5:]} ({time.monotonic() - start:.1f} s)", flush=True)
        except mfs.Skip as reason:
            suite.skips.append(name)
            print(f"skip   {name[5:]}: {reason}", flush=True)
        except Exception as error:  # the next case runs whatever this one met
            import traceback
            where = [t for t in traceback.extract_tb(error.__traceback__) if "/tests/" in t.filename]
            line = " < ".join(f"{os.path.basename(t.filename)}:{t.lineno}" for t in reversed(where[-3:]))
            suite.fail(f"{name[5:]} at {line}: {type(error).__name__}: {error}")
            mfs.close_others(held)
            for mount in worlds[key].m if key in worlds else ():
                mount.thaw() if hasattr(mount, "thaw") else None
        if key in worlds and kwargs:
            finish(suite, key, worlds.pop(key))
    for key, w in worlds.items():
        finish(suite, key, w)


def finish(suite, key, w):
    try:
        w.cluster.done()
    except Exception as error:
        suite.fail(f"at the end of {key}: {type(error).__name__}: {error}")
        for mount in list(suite.mounts):
            mount.kill()


if __name__ == "__main__":
    mfs.main("mounts", __doc__, body, lambda p: p.add_argument("--seconds", type=int, default=0, help="of the random workload"))
