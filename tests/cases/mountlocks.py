#!/usr/bin/env python3
"""Locks of three mounts of one volume on MinIO, MongoDB and Redis: flock and fcntl, ranges, deadlocks, a storm, counters, SQLite; and
what becomes of them when a mount is killed, or freezes for longer than its lease."""
import errno
import fcntl
import mmap
import os
import random
import signal
import sqlite3
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cluster
import mfs
from cluster import LEASE
from mfs import check, get, put, same, wait_for
from workers import Worker, together
from worlds import read_or_none, run_cases, stat_or_none


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
        os.kill(waiting.pid, signal.SIGTERM)
        wait_for(waiting.poll, 10 * w.slow, f"{kind}: the end of one that waits and is killed")
        unlock(fd, kind)
        wait_for(lambda: Worker(try_lock, f"{where[2]}/f", kind).result(), 5 * w.slow, f"{kind}: nothing is left of the killed one")
    os.close(fd)


STORM_FILES, STORM_RANGES = 3, 4


def storm(paths, me, shared, until, seed, kind):
    """Takes and leaves locks at random. shared[process][file][range] tells what each believes to have: 0, 1 shared, 2 alone."""
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
            wait_for(lambda: os.stat(f"{path}/{kind}"), 20 * w.slow, "it")
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


if __name__ == "__main__":
    mfs.main("mountlocks", __doc__, lambda suite: run_cases(suite, globals()))
