#!/usr/bin/env python3
"""Space: fallocate in its modes, lseek's holes, st_blocks, truncate up and down, copy_file_range, commit=."""
import ctypes
import errno
import mmap
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, digest, get, massfs_only, noise, put, raises, run_cases, same

KIB = 1024
MIB = 1024 * 1024
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 1, 2, 8, 16, 32


def fallocate(fd, mode, offset, length):
    mfs.libc("fallocate", fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length))


def punch(fd, offset, length):
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)


def opened(path, flags=os.O_RDWR | os.O_CREAT):
    return os.open(path, flags, 0o644)


def blocks(path):
    return os.stat(path).st_blocks * 512


def extents(fd):
    """The data of a file as [start, end) pairs, by SEEK_DATA and SEEK_HOLE."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            same(error.errno, errno.ENXIO, "SEEK_DATA without data behind")
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        check(start < at <= size, f"data from {start} to {at} of {size}")
        found.append((start, at))
    return found


def whole_states(case, path, call):
    """call(fd) on the file as it is: open and dirty, after a close, after a remount, settled, and after another remount."""
    def again():
        fd = os.open(path, os.O_RDONLY)
        try:
            call(fd)
        finally:
            os.close(fd)

    again()
    case.remount()
    again()
    case.volume.settle(case.mount)
    again()
    case.remount()
    again()


def case_punch_reads_zeros_and_gives_space_back(case):
    path = put(case.path("f"), noise(1, 4 * MIB))
    case.volume.settle(case.mount)
    want = bytearray(noise(1, 4 * MIB))
    before = blocks(path)
    fd = opened(path)
    punch(fd, MIB, MIB)
    punch(fd, 3 * MIB + 100, 5000)  # not at a block's borders
    want[MIB:2 * MIB] = bytes(MIB)
    want[3 * MIB + 100:3 * MIB + 5100] = bytes(5000)
    same(os.fstat(fd).st_size, 4 * MIB, "size")
    same(os.pread(fd, 4 * MIB, 0), bytes(want), "content while open")
    os.close(fd)
    whole_states(case, path, lambda f: check(os.pread(f, 5 * MIB, 0) == want, "content"))
    if case.suite.args.store == "localdir":  # an object of a bucket has no holes: once it is one again, they are zeros in it
        check(blocks(path) <= before - MIB + 64 * KIB, f"st_blocks {blocks(path)} after a punch, {before} before")


def case_punch_beyond_the_end(case):
    path = put(case.path("f"), b"x" * 10000)
    fd = opened(path)
    punch(fd, 8000, 1 << 40)
    same(os.fstat(fd).st_size, 10000, "size")
    punch(fd, 20000, 100)
    same(os.fstat(fd).st_size, 10000, "size")
    os.close(fd)
    same(get(path), b"x" * 8000 + bytes(2000), "content")


def case_zero_range(case):
    path = put(case.path("f"), b"x" * 100000)
    fd = opened(path)
    fallocate(fd, ZERO_RANGE, 10000, 20000)
    same(os.fstat(fd).st_size, 100000, "size")
    fallocate(fd, ZERO_RANGE | KEEP_SIZE, 90000, 50000)
    same(os.fstat(fd).st_size, 100000, "size with KEEP_SIZE")
    want = b"x" * 10000 + bytes(20000) + b"x" * 60000 + bytes(10000)
    same(os.pread(fd, 200000, 0), want, "content")
    fallocate(fd, ZERO_RANGE, 50000, 100000)
    same(os.fstat(fd).st_size, 150000, "size without KEEP_SIZE")
    os.close(fd)
    want = want[:50000] + bytes(100000)
    same(get(path), want, "content")
    case.remount()
    same(get(path), want, "content after a remount")


def case_allocate_promises_room_and_grows(case):
    path = put(case.path("f"), b"x" * 5000)
    fd = opened(path)
    fallocate(fd, 0, 1000, 2000)
    same(os.fstat(fd).st_size, 5000, "size after an allocation inside")
    fallocate(fd, KEEP_SIZE, 0, MIB)
    same(os.fstat(fd).st_size, 5000, "size with KEEP_SIZE")
    fallocate(fd, 0, 4000, 100000)
    same(os.fstat(fd).st_size, 104000, "size")
    same(os.pread(fd, 200000, 0), b"x" * 5000 + bytes(99000), "content")
    os.close(fd)
    same(get(path), b"x" * 5000 + bytes(99000), "content after close")


@massfs_only
def case_what_is_refused(case):
    path = put(case.path("f"), b"x" * 65536)
    fd = opened(path)
    raises(errno.EOPNOTSUPP, fallocate, fd, COLLAPSE, 0, 4096)
    raises(errno.EOPNOTSUPP, fallocate, fd, INSERT, 0, 4096)
    raises(errno.EOPNOTSUPP, fallocate, fd, PUNCH_HOLE, 0, 4096)
    raises(errno.EINVAL, fallocate, fd, 0, 0, 0)
    raises(errno.EINVAL, fallocate, fd, 0, -1, 10)
    raises(errno.EFBIG, fallocate, fd, 0, 0, 1 << 50)
    if case.suite.args.store == "localdir":  # a bucket has no end
        raises(errno.ENOSPC, fallocate, fd, 0, 0, 1 << 42)
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    raises(errno.EBADF, fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, 4096)
    os.close(fd)
    same(get(path), b"x" * 65536, "content")
    same(os.stat(path).st_size, 65536, "size")


def case_seek_finds_data_and_holes(case):
    if case.suite.args.store != "localdir":
        raise mfs.Skip("once settled an object of a bucket has zeros where the file had holes")
    path = case.path("f")
    fd = opened(path)
    os.pwrite(fd, noise(1, 64 * KIB), 0)
    os.pwrite(fd, noise(2, 64 * KIB), MIB)
    os.pwrite(fd, noise(3, 2 * MIB), 8 * MIB)
    os.ftruncate(fd, 16 * MIB)
    want = [(0, 64 * KIB), (MIB, MIB + 64 * KIB), (8 * MIB, 10 * MIB)]
    same(extents(fd), want, "data while open")
    os.close(fd)
    whole_states(case, path, lambda f: same(extents(f), want, "data"))
    fd = opened(path)
    punch(fd, 9 * MIB, 512 * KIB)
    os.pwrite(fd, b"z" * 64 * KIB, 12 * MIB)
    want = [*want[:2], (8 * MIB, 9 * MIB), (9 * MIB + 512 * KIB, 10 * MIB), (12 * MIB, 12 * MIB + 64 * KIB)]
    same(extents(fd), want, "data after a punch and a write")
    os.close(fd)
    whole_states(case, path, lambda f: same(extents(f), want, "data after a punch and a write"))


def case_seek_at_the_ends(case):
    path = put(case.path("f"), b"x" * 5000)
    fd = os.open(path, os.O_RDONLY)
    same(os.lseek(fd, 0, os.SEEK_DATA), 0, "SEEK_DATA")
    same(os.lseek(fd, 100, os.SEEK_HOLE), 5000, "SEEK_HOLE in a file without")
    raises(errno.ENXIO, os.lseek, fd, 5000, os.SEEK_DATA)
    raises(errno.ENXIO, os.lseek, fd, 5000, os.SEEK_HOLE)
    raises(errno.ENXIO, os.lseek, fd, 1 << 40, os.SEEK_HOLE)
    same(os.lseek(fd, -10, os.SEEK_END), 4990, "SEEK_END")
    os.close(fd)
    fd = opened(case.path("empty"))
    raises(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
    os.ftruncate(fd, MIB)
    raises(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
    same(os.lseek(fd, 10, os.SEEK_HOLE), 10, "SEEK_HOLE in a hole")
    os.close(fd)


def case_blocks_are_what_is_stored(case):
    small = put(case.path("small"), b"x" * 1000)
    check(0 < blocks(small) <= 4096, f"a small file takes {blocks(small)}")
    same(blocks(put(case.path("none"))), 0, "blocks of an empty file")
    sparse = case.path("sparse")
    fd = opened(sparse)
    os.ftruncate(fd, 1 << 34)
    os.pwrite(fd, b"x" * 65536, 1 << 33)
    check(65536 <= os.fstat(fd).st_blocks * 512 <= 200000, f"a sparse file takes {os.fstat(fd).st_blocks * 512} while open")
    os.close(fd)
    whole_states(case, sparse, lambda f: check(65536 <= os.fstat(f).st_blocks * 512 <= 200000,
                                               f"a sparse file takes {os.fstat(f).st_blocks * 512}"))
    big = put(case.path("big"), noise(1, 8 * MIB))
    check(8 * MIB <= blocks(big) <= 8 * MIB + 65536, f"a whole file takes {blocks(big)}")
    fd = opened(big)
    for i in range(50):
        os.pwrite(fd, b"y" * 4096, i * 100000)
        os.fsync(fd)
    os.close(fd)
    check(8 * MIB <= blocks(big) <= 8 * MIB + 65536, f"a changed file takes {blocks(big)}")
    os.truncate(big, MIB)
    check(MIB <= blocks(big) <= MIB + 65536, f"a truncated file takes {blocks(big)}")
    os.truncate(big, 0)
    same(blocks(big), 0, "blocks of what was truncated to nothing")


def case_growth_reads_zeros(case):
    """What a truncate takes away never comes back, whatever held it."""
    want = {}
    for name, size in (("inline", 3000), ("object", 200000), ("parts", 7 * MIB)):
        path = put(case.path(name), noise(size, size))
        fd = opened(path)
        data = bytearray(noise(size, size))
        for at in range(0, size, size // 5):
            os.pwrite(fd, b"patched", at)
            data[at:at + 7] = b"patched"
        os.fsync(fd)
        cut = size // 2
        del data[max(size, len(data)):]
        os.ftruncate(fd, cut)
        same(os.fstat(fd).st_size, cut, f"size of {name} cut off")
        os.fsync(fd)
        os.ftruncate(fd, size + 50000)
        data = data[:cut] + bytes(size + 50000 - cut)
        check(os.pread(fd, len(data) + 10, 0) == data, f"{name} grown, while open")
        os.pwrite(fd, b"end", size + 60000)
        data += bytes(10000) + b"end"
        os.close(fd)
        check(get(path) == data, f"{name} grown")
        want[path] = bytes(data)
    for settle in (False, True):
        if settle:
            case.volume.settle(case.mount)
        case.remount()
        for path, data in want.items():
            check(get(path) == data, f"{os.path.basename(path)} after a remount, settled: {settle}")


def copy_all(source, target, length, from_offset=0, to_offset=0):
    """copy_file_range until nothing comes any more: how much."""
    done = 0
    while done < length:
        n = os.copy_file_range(source, target, length - done, from_offset + done, to_offset + done)
        if n == 0:
            break
        done += n
    return done


def case_copy_range_between_files(case):
    data = noise(1, 3 * MIB)
    source = os.open(put(case.path("a"), data), os.O_RDWR)
    target = opened(case.path("b"))
    same(copy_all(source, target, len(data)), len(data), "bytes copied")
    same(os.fstat(target).st_size, len(data), "size")
    check(os.pread(target, 4 * MIB, 0) == data, "content while open")
    # Over pages that are in the cache, with a source whose newest bytes are nowhere but in memory.
    os.pwrite(source, b"dirty" * 1000, 100)
    same(copy_all(source, target, 5000, 100, 12345), 5000, "bytes copied")
    want = bytearray(data)
    want[12345:17345] = b"dirty" * 1000
    check(os.pread(target, 4 * MIB, 0) == want, "content after a copy over cached pages")
    os.close(source)
    os.close(target)
    check(get(case.path("b")) == want, "content after close")
    case.remount()
    check(get(case.path("b")) == want, "content after a remount")


def case_copy_range_across_the_end(case):
    source = os.open(put(case.path("a"), b"0123456789" * 100), os.O_RDONLY)
    target = opened(put(case.path("b"), b"-" * 50))
    same(copy_all(source, target, 5000, 900, 40), 100, "bytes copied up to the end")
    same(copy_all(source, target, 5000, 1000, 40), 0, "bytes copied at the end")
    same(copy_all(source, target, 5000, 9999, 40), 0, "bytes copied behind the end")
    same(copy_all(source, target, 10, 0, 200), 10, "bytes copied beyond the target's end")
    os.close(source)
    os.close(target)
    same(get(case.path("b")), b"-" * 40 + b"0123456789" * 10 + bytes(60) + b"0123456789", "content")


def case_copy_range_in_one_file(case):
    data = noise(2, 300000)
    fd = opened(put(case.path("f"), data))
    raises(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 0, 999)
    raises(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 999, 0)
    raises(errno.EINVAL, os.copy_file_range, fd, fd, 1000, 500, 500)
    same(copy_all(fd, fd, 1000, 0, 1000), 1000, "bytes copied beside")
    same(copy_all(fd, fd, 300000, 0, 300000), 300000, "bytes copied behind")
    want = data[:1000] + data[:1000] + data[2000:]
    os.close(fd)
    check(get(case.path("f")) == want + want, "content")


def case_copy_range_keeps_holes(case):
    source = opened(case.path("a"))
    os.pwrite(source, noise(1, 65536), 0)
    os.pwrite(source, noise(2, 65536), 32 * MIB)
    os.ftruncate(source, 64 * MIB)
    os.fsync(source)
    target = opened(put(case.path("b"), noise(3, 2 * MIB)))
    same(copy_all(source, target, 64 * MIB), 64 * MIB, "bytes copied")
    os.close(source)
    os.close(target)
    same(digest(case.path("a")), digest(case.path("b")), "content")
    if not case.suite.plain:
        check(blocks(case.path("b")) <= MIB, f"the copy takes {blocks(case.path('b'))}")


def case_copy_range_of_64_mib(case):
    data = noise(7, 64 * MIB)
    path = put(case.path("a"), data)
    case.volume.settle(case.mount)
    source = os.open(path, os.O_RDONLY)
    target = opened(case.path("b"))
    same(copy_all(source, target, 1 << 40), len(data), "bytes copied")
    os.close(source)
    os.pwrite(target, b"changed", 5 * MIB)
    os.close(target)
    case.remount()
    check(get(case.path("a")) == data, "the source")
    want = bytearray(data)
    want[5 * MIB:5 * MIB + 7] = b"changed"
    check(get(case.path("b")) == want, "the copy")


def case_mapped_pages_follow(case):
    """Pages that are mapped, and dirty, when ranges are punched and copied."""
    path = put(case.path("f"), noise(4, 64 * KIB))
    want = bytearray(noise(4, 64 * KIB))
    fd = opened(path)
    with mmap.mmap(fd, 64 * KIB) as mapped:
        mapped[5000:6000] = b"m" * 1000
        want[5000:6000] = b"m" * 1000
        punch(fd, 4096, 1500)
        want[4096:5596] = bytes(1500)
        same(bytes(mapped[:]), bytes(want), "the mapping after a punch")
        mapped[40000:40010] = b"0123456789"
        want[40000:40010] = b"0123456789"
        copy_all(fd, fd, 100, 39990, 10)
        want[10:110] = want[39990:40090]
        same(bytes(mapped[:]), bytes(want), "the mapping after a copy")
    os.close(fd)
    same(get(path), bytes(want), "content")
    case.remount()
    same(get(path), bytes(want), "content after a remount")


class Model:
    """One file and what it must hold, changed in every way at random."""

    LIMIT = 3 * MIB

    def __init__(self, case, name):
        self.case, self.rng, self.path, self.want = case, case.rng, put(case.path(name)), bytearray()
        self.fd = opened(self.path)

    def range(self, limit=None):
        limit = limit or self.LIMIT
        start = self.rng.randrange(limit)
        return start, min(self.rng.choice((1, 100, 4096, 65536, 400000)) + self.rng.randrange(4096), limit - start)

    def grow(self, size):
        if size > len(self.want):
            self.want += bytes(size - len(self.want))

    def write(self):
        start, n = self.range()
        data = noise(self.rng.random(), n)
        os.pwrite(self.fd, data, start)
        self.grow(start + n)
        self.want[start:start + n] = data

    def punch(self):
        start, n = self.range()
        punch(self.fd, start, n)
        n = max(0, min(n, len(self.want) - start))
        self.want[start:start + n] = bytes(n)

    def zero(self):
        start, n = self.range()
        fallocate(self.fd, ZERO_RANGE, start, n)
        self.grow(start + n)
        self.want[start:start + n] = bytes(n)

    def truncate(self):
        size = self.rng.randrange(self.LIMIT)
        os.ftruncate(self.fd, size)
        del self.want[size:]
        self.grow(size)

    def copy(self):
        start, n = self.range()
        to = self.rng.randrange(self.LIMIT - n)
        n = max(0, min(n, len(self.want) - start))
        if n == 0 or abs(to - start) < n:
            return
        same(copy_all(self.fd, self.fd, n, start, to), n, "bytes copied")
        self.grow(to + n)
        self.want[to:to + n] = self.want[start:start + n]

    def reopen(self):
        os.close(self.fd)
        self.fd = opened(self.path)

    def settle(self):
        self.case.volume.settle(self.case.mount)

    def sync(self):
        os.fsync(self.fd)

    def check(self):
        same(os.fstat(self.fd).st_size, len(self.want), "size")
        check(os.pread(self.fd, self.LIMIT + 1, 0) == self.want, "content")
        at = 0
        for start, end in extents(self.fd):
            check(not any(self.want[at:start]), f"SEEK_DATA says that {at} to {start} is a hole")
            at = end
        check(not any(self.want[at:]), f"SEEK_DATA says that there is a hole behind {at}")


def case_random_changes_agree_with_a_model(case):
    steps = 600 if getattr(case.suite.args, "share", "short") == "long" else 150
    m = Model(case, "f")
    ways = [m.write] * 6 + [m.punch, m.zero, m.truncate, m.copy] * 2 + [m.sync] * 3 + [m.reopen] * 2 + [m.settle]
    for i in range(steps):
        way = case.rng.choice(ways)
        try:
            way()
            if i % 5 == 0:
                m.check()
        except (AssertionError, mfs.Failure) as error:
            raise mfs.Failure(f"step {i} ({way.__name__}), seed {case.suite.seed}: {error}") from error
    m.check()
    os.close(m.fd)
    case.remount()
    check(get(m.path) == m.want, f"content after a remount, seed {case.suite.seed}")


@massfs_only
def case_restore_under_an_open_writer(case):
    """A version of slices comes back while a writer with patches of its own has the file open, and goes on writing."""
    path = case.path("f")
    states = [bytearray(noise(1, MIB))]
    put(path, states[0])
    for i in range(4):  # each closed: a version each
        want = bytearray(states[-1])
        fd = opened(path)
        for k in range(20):
            at = case.rng.randrange(MIB - 5000)
            data = noise(case.rng.random(), 3000)
            os.pwrite(fd, data, at)
            want[at:at + 3000] = data
            os.fsync(fd)
        os.close(fd)
        states.append(want)
        time.sleep(0.01)
    fd = opened(path)
    for turn in range(3):
        listed = case.suite.massfs_json("versions", "--json", path)
        name = listed[1 + case.rng.randrange(len(listed) - 1)]["version"]
        case.suite.massfs("restore", f"{path}@{name}")
        time.sleep(0.5)  # the kernel is told to drop its pages by a thread that nobody waits for
        want = bytearray(os.pread(fd, 2 * MIB, 0))
        check(any(want == s for s in states), f"turn {turn}: what was restored is none of the former states")
        for k in range(30):
            at = case.rng.randrange(MIB - 5000)
            data = noise(case.rng.random(), 2000)
            os.pwrite(fd, data, at)
            want[at:at + 2000] = data
            if k % 3 == 0:
                os.fsync(fd)
                check(os.pread(fd, 2 * MIB, 0) == want, f"turn {turn}, write {k}: content")
        os.fsync(fd)
        states.append(want)
    os.close(fd)
    whole_states(case, path, lambda f: check(os.pread(f, 2 * MIB, 0) == states[-1], "content"))


@massfs_only
def case_commit_makes_open_files_durable(case):
    """commit=1: what was written two seconds ago survives kill -9 though nobody closed or synced it."""
    volume = case.suite.volume("commit").format()
    mount = volume.mount("commit=1")
    fds = {}
    for name, size in (("small", 5000), ("middle", 300000), ("big", 12 * MIB)):
        fds[name] = opened(f"{mount.path}/{name}")
        os.write(fds[name], noise(size, size))
    time.sleep(4)
    for name, fd in fds.items():
        st = os.fstat(fd)
        check(st.st_blocks > 0 and st.st_size > 0, f"stat of {name} after the commit: {st}")
    os.pwrite(fds["middle"], b"later", 0)
    time.sleep(4)
    mount.kill()
    for fd in fds.values():
        try:
            os.close(fd)
        except OSError:
            pass
    mfs.run(["umount", "-l", mount.path], ok=None)  # on a cluster it has gone with the daemon
    mount = volume.mount()
    check(get(f"{mount.path}/small") == noise(5000, 5000), "the small file")
    check(get(f"{mount.path}/middle") == b"later" + noise(300000, 300000)[5:], "the changed file")
    check(get(f"{mount.path}/big") == noise(12 * MIB, 12 * MIB), "the big file")
    # Attributes are right, too, when the last commit was the thread's and the close had nothing to do.
    fd = opened(f"{mount.path}/after")
    os.write(fd, b"x" * 7000)
    time.sleep(7)
    os.close(fd)
    same(os.stat(f"{mount.path}/after").st_size, 7000, "size after the close")
    same(case.suite.massfs_json("versions", "--json", f"{mount.path}/middle")[1:], [], "versions of a file open all the time")
    mount.umount()
    volume.fsck()


@massfs_only
def case_truncating_open_is_committed_at_close(case):
    """A rewrite is one change of the index: the old content, or all of the new; on its own a truncation counts at once."""
    path = put(case.path("f"), b"the old content")
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    same((os.fstat(fd).st_size, get(path)), (0, b""), "size and content before the close")
    os.write(fd, b"new")
    case.mount.kill()
    try:
        os.close(fd)
    except OSError:
        pass
    mfs.run(["umount", "-l", case.mount.path], ok=None)
    case.runner.mount = case.volume.mount(case.runner.opts)
    same(get(path), b"the old content", "content after a kill before the close")
    put(path, b"new")
    for flags in (os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_RDWR, None):
        fd = None if flags is None else os.open(path, flags)
        os.truncate(path, 0)
        same(os.stat(path).st_size, 0, "size")
        if fd is not None:
            os.close(fd)
        case.remount()
        same(get(path), b"", f"content after a truncation, flags {flags}")
        put(path, b"new")


if __name__ == "__main__":
    run_cases("posix_holes", __doc__, globals())
