#!/usr/bin/env python3
"""Many threads at everything at once, for the sanitizers: TSan finds races, ASan what they break.

What is read is checked: a file holds a number, its length and its digest, and is replaced by rename or
rewritten as a whole, so a reader sees one whole content or, while it is rewritten, an error of length.
"""
import errno
import fcntl
import hashlib
import mmap
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Failure, check

FINE = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ESTALE, errno.ENOTDIR, errno.EISDIR, errno.EINVAL,
        errno.ENODATA, errno.EAGAIN, errno.ETXTBSY, errno.ELOOP, errno.EMLINK)


def sealed(rng, size):
    data = rng.randbytes(size)
    return hashlib.sha256(data).digest() + data


def broken(data):
    return len(data) < 32 or hashlib.sha256(data[32:]).digest() != data[:32]


class Stress:
    def __init__(self, suite, mount):
        self.suite = suite
        self.root = mount.path
        self.stop = threading.Event()
        self.errors = []
        self.counts = {}
        for name in ("a", "b", "c/d"):
            os.makedirs(f"{self.root}/{name}")

    def name(self, rng, prefix="f"):
        return f"{self.root}/{rng.choice(('a', 'b', 'c', 'c/d'))}/{prefix}{rng.randrange(40)}"

    # ---- what the threads do

    def replace(self, rng):
        """A name with prefix f always holds a whole content."""
        temporary = f"{self.root}/a/.t{threading.get_ident()}-{rng.randrange(10**9)}"
        size = rng.choice((10, 5000, 70000, 300000)) if rng.random() < 0.97 else 6 << 20
        mfs.put(temporary, sealed(rng, size))
        os.rename(temporary, self.name(rng))

    def read(self, rng):
        path = self.name(rng)
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
        check(not broken(data), f"{path}: {len(data)} bytes of no one content")

    def read_mapped(self, rng):
        path = self.name(rng)
        with open(path, "rb", buffering=0) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            check(not broken(memory[:]), f"{path}: mapped, no one content")

    def rename(self, rng):
        os.rename(self.name(rng), self.name(rng))

    def exchange(self, rng):
        mfs.renameat2(self.name(rng), self.name(rng), mfs.RENAME_EXCHANGE)

    def link(self, rng):
        os.link(self.name(rng), self.name(rng))

    def unlink(self, rng):
        os.unlink(self.name(rng))

    def list(self, rng):
        for where, _, names in os.walk(f"{self.root}/{rng.choice('abc')}"):
            for name in names[:20]:
                os.lstat(f"{where}/{name}")

    def attributes(self, rng):
        path = self.name(rng)
        os.setxattr(path, f"user.{rng.choice('xyz')}", rng.randbytes(rng.randrange(300)))
        os.chmod(path, rng.choice((0o644, 0o755)))
        os.utime(path, ns=(rng.randrange(10**18), rng.randrange(10**18)))
        os.listxattr(path)
        os.getxattr(path, "user.x")

    def folders(self, rng):
        path = self.name(rng, "dir")
        os.mkdir(path)
        mfs.put(f"{path}/x", b"y")
        os.rename(path, self.name(rng, "dir"))
        os.unlink(f"{path}/x")

    def remove_folder(self, rng):
        path = self.name(rng, "dir")
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)

    def shared_writes(self, rng):
        """Several writers, one file, no promise but no crash: content is not judged (prefix g)."""
        fd = os.open(self.name(rng, "g"), os.O_RDWR | os.O_CREAT)
        try:
            for _ in range(5):
                os.pwrite(fd, rng.randbytes(rng.randrange(1, 9000)), rng.randrange(200000))
                if rng.random() < 0.3:
                    os.fsync(fd)
                if rng.random() < 0.1:
                    os.ftruncate(fd, rng.randrange(200000))
                os.pread(fd, 5000, rng.randrange(200000))
        finally:
            os.close(fd)

    def append(self, rng):
        fd = os.open(self.name(rng, "g"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, rng.randbytes(rng.randrange(5000)))
        os.close(fd)

    def lock(self, rng):
        fd = os.open(self.name(rng, "g"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, rng.randrange(100))
        finally:
            os.close(fd)

    def unlink_open(self, rng):
        path = self.name(rng, "h")
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            os.write(fd, b"1" * 10000)
            os.unlink(path)
            os.write(fd, b"2" * 10000)
            check(os.fstat(fd).st_size >= 20000, "size of an unlinked file")
        finally:
            os.close(fd)

    def symlink(self, rng):
        path = self.name(rng, "l")
        os.symlink("x" * rng.randrange(1, 100), path)
        os.readlink(path)
        os.unlink(path)

    def statfs(self, _rng):
        os.statvfs(self.root)

    WORK = (replace, replace, replace, read, read, read_mapped, rename, exchange, link, unlink, list, attributes,
            folders, remove_folder, shared_writes, append, lock, unlink_open, symlink, statfs)

    def thread(self, number):
        rng = random.Random(f"{self.suite.seed} {number}")
        while not self.stop.is_set():
            work = rng.choice(self.WORK)
            try:
                work(self, rng)
                self.counts[work.__name__] = self.counts.get(work.__name__, 0) + 1
            except ValueError as error:
                self.errors.append(f"{work.__name__}: {error}")
            except OSError as error:
                if error.errno not in FINE:
                    self.errors.append(f"{work.__name__}: {error}")
                    self.stop.set()
            except Failure as error:
                self.errors.append(f"{work.__name__}: {error}")
                self.stop.set()

    def run(self, seconds):
        threads = [threading.Thread(target=self.thread, args=(n,), daemon=True) for n in range(12)]
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join(60)
            check(not thread.is_alive(), "a thread hangs")


def contents(root):
    """Every judged file must be whole, and is remembered for the look after the remount."""
    found = {}
    for where, _, names in os.walk(root):
        for name in names:
            path = f"{where}/{name}"
            if name.startswith(("f", "g")):
                data = mfs.get(path)
                check(not (name.startswith("f") and broken(data)), f"{path}: {len(data)} bytes of no one content")
                st = os.lstat(path)
                found[path] = (hashlib.sha256(data).digest(), st.st_ino, st.st_mode, st.st_mtime_ns, st.st_nlink)
    return found


def body(suite):
    seconds = suite.args.seconds or (300 if suite.long else 20)
    volume = suite.volume().format()
    mount = volume.mount("allow_other")
    stress = Stress(suite, mount)
    start = time.monotonic()
    while time.monotonic() - start < seconds and not stress.errors:
        stress.stop.clear()
        stress.run(min(20, seconds))
        if stress.errors:
            break
        before = contents(mount.path)
        mount = mount.remount("allow_other")
        after = contents(mount.path)
        different = [p for p in before if before[p] != after.get(p)] + [p for p in after if p not in before]
        check(not different, f"different after a remount: {different[:5]}, "
              f"{[(before.get(p), after.get(p)) for p in different[:2]]}")
    for error in stress.errors[:5]:
        suite.fail(error)
    print("       " + ", ".join(f"{n} {c}" for n, c in sorted(stress.counts.items())), flush=True)
    mount.umount()
    volume.fsck()


if __name__ == "__main__":
    mfs.main("stress", __doc__, body, lambda p: p.add_argument("--seconds", type=int, default=0))
