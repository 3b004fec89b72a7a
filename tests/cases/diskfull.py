#!/usr/bin/env python3
"""Full disks: below objects and index, while the reconciler works, and below the cache.

The volume is on a small ext4 of its own, which a file beside the volume fills. What must hold: ENOSPC at write, fsync or close
and nothing else; the daemon lives; each file reads what was acknowledged last; when there is room again everything works, fsck
is clean, settle --wait makes each file a native object. A full cache folder costs speed and nothing else.
"""
import errno
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import loopdev
import mfs
from mfs import Failure, check, run, same

PAGE = 4096


class Filler:
    """A file that takes the room of a filesystem, but for what is left over."""

    def __init__(self, where):
        self.where, self.path = where, f"{where}/filler"

    def free(self):
        st = os.statvfs(self.where)
        return st.f_bavail * st.f_frsize

    def fill(self, leave=0):
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for piece in (1 << 20, 65536, PAGE, 512):
            try:
                while self.free() >= leave + piece or not leave:
                    os.write(fd, bytes(piece))
            except OSError as error:
                same(error.errno, errno.ENOSPC, "errno of the filler")
        os.fsync(fd)
        os.close(fd)

    def remove(self):
        if os.path.exists(self.path):
            os.unlink(self.path)


class Files:
    """Files with what was acknowledged last. A call that fails with ENOSPC must leave that, or what it was to be."""

    def __init__(self, suite, mount):
        self.suite, self.mount = suite, mount
        self.rng = random.Random(f"{suite.seed} files")
        self.content = {}   # name -> acknowledged
        self.unsure = {}    # name -> contents of calls that failed
        self.failed = 0
        self.counter = 0

    def path(self, name):
        return f"{self.mount.path}/{name}"

    def attempt(self, name, data, call):
        """True: it worked and `data` is the content now."""
        try:
            call()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise Failure(f"{name}: {errno.errorcode.get(error.errno)} on a full disk, want ENOSPC") from error
            self.failed += 1
            self.unsure.setdefault(name, []).append(data)
            return False
        self.content[name] = data
        self.unsure.pop(name, None)
        return True

    def put(self, name, data):
        def call():
            mfs.put(self.path(name), data)
        known = name in self.content
        if not self.attempt(name, data, call) and not known:
            # The name may be there, with nothing in it: the create was a change of its own.
            self.unsure.setdefault(name, []).extend([b"", None])

    def scatter(self, name, n):
        """Pages all over an old file, an fsync after each."""
        data = bytearray(self.content[name])
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            for _ in range(n):
                page, piece = self.rng.randrange(len(data) // PAGE), self.rng.randbytes(PAGE)
                data[page * PAGE:(page + 1) * PAGE] = piece

                def call():
                    os.pwrite(fd, piece, page * PAGE)
                    os.fsync(fd)
                if not self.attempt(name, bytes(data), call):
                    break
        finally:
            try:
                os.close(fd)
            except OSError as error:
                same(error.errno, errno.ENOSPC, f"close of {name}")
        # A failed fsync keeps what is dirty, so the close may have stored it after all: it is there or it is not.

    def work(self, rounds):
        for number in range(self.counter, self.counter + rounds):
            kind = self.rng.choice(("inline", "inline", "new", "big", "old", "old", "old", "rewrite", "mkdir"))
            if kind == "inline":
                self.put(f"inline-{number}", self.rng.randbytes(self.rng.randrange(1, 16_000)))
            elif kind == "new":
                self.put(f"new-{number}", self.rng.randbytes(self.rng.randrange(20_000, 400_000)))
            elif kind == "big":
                self.put(f"big-{number}", self.rng.randbytes(7 << 20))
            elif kind == "rewrite":
                self.put("old-0", self.rng.randbytes(1 << 20))
            elif kind == "mkdir":
                try:
                    os.mkdir(self.path(f"d-{number}"))
                except OSError as error:
                    same(error.errno, errno.ENOSPC, "errno of mkdir")
            else:
                self.scatter(self.rng.choice(("old-1", "old-2")), 5)
        self.counter += rounds

    def verify(self, when):
        for name, want in [*self.content.items(), *((n, None) for n in self.unsure if n not in self.content)]:
            may = [want, *self.unsure.get(name, [])]
            got = mfs.get(self.path(name)) if os.path.lexists(self.path(name)) else None
            if got not in may:
                raise Failure(f"{when}: {name} has {None if got is None else len(got)} bytes that nobody acknowledged, want "
                              f"{[None if m is None else len(m) for m in may]}")

    def adopt(self):
        """What was found is the content from here on."""
        for name in [*self.content, *self.unsure]:
            if os.path.lexists(self.path(name)):
                self.content[name] = mfs.get(self.path(name))
        self.unsure.clear()

    def verify_objects(self, volume):
        for name, want in self.content.items():
            there = volume.object(name)
            if not want and not os.path.lexists(there):
                continue  # made, and its close failed: an empty file, that has no object yet
            if not os.path.isfile(there) or mfs.get(there) != want:
                raise Failure(f"objects/{name} is not the file after settle --wait: "
                              + self.suite.massfs("info", "--volume", volume.dir, name, ok=None)[1])


def volume_on(suite, disk, place, opts=""):
    os.environ["MASSFS_TEST_GC_AGE"] = suite.env["MASSFS_TEST_GC_AGE"] = "0"
    volume = mfs.Volume(suite, os.path.basename(place), f"{disk}/v").format()
    os.makedirs(f"{place}/m", exist_ok=True)
    mount = volume.mount(f"allow_other,retention=0{opts}", path=f"{place}/m")
    files = Files(suite, mount)
    for number in range(3):
        files.put(f"old-{number}", files.rng.randbytes(4 << 20))
    volume.settle(mount)
    return volume, mount, files


def end(volume, mount, files, disk):
    """There is room again: everything works, and is what it should be."""
    files.verify("with room again")
    files.adopt()
    files.work(10)
    check(not files.unsure, f"still ENOSPC with room again: {list(files.unsure)}")
    volume.settle(mount)
    mount.umount()
    volume.fsck()
    files.verify_objects(volume)
    volume.collect()
    mount = volume.mount("allow_other", path=mount.path)
    files.mount = mount
    files.verify("after gc --delete and a second mount")
    mount.umount()
    run(["umount", disk])


def case_objects_and_index(suite, place):
    """The disk of the volume is full while files of all kinds are written."""
    disk = loopdev.small_fs(f"{place}/image", f"{place}/disk", 160 << 20)
    filler = Filler(disk)
    volume, mount, files = volume_on(suite, disk, place)
    for leave in (6 << 20, 1 << 20, 0):
        filler.fill(leave)
        files.work(40)
        files.verify(f"on a full disk, {leave} bytes were left")
        check(mount.alive(), "the daemon died")
    check(files.failed > 5, f"only {files.failed} calls failed: the disk was not full")
    filler.remove()
    end(volume, mount, files, disk)


def case_unmounted_while_full(suite, place):
    """What was acknowledged is there after an unmount and a mount of the full disk."""
    disk = loopdev.small_fs(f"{place}/image", f"{place}/disk", 120 << 20)
    filler = Filler(disk)
    volume, mount, files = volume_on(suite, disk, place)
    filler.fill(2 << 20)
    files.work(40)
    files.verify("on a full disk")
    mount.umount()
    mount = files.mount = volume.mount("allow_other,retention=0", path=mount.path)
    files.verify("after a remount of the full disk")
    filler.remove()
    end(volume, mount, files, disk)


def case_killed_while_full(suite, place):
    disk = loopdev.small_fs(f"{place}/image", f"{place}/disk", 120 << 20)
    filler = Filler(disk)
    volume, mount, files = volume_on(suite, disk, place)
    filler.fill(1 << 20)
    files.work(40)
    mount.kill()
    filler.remove()
    mount = files.mount = volume.mount("allow_other,retention=0", path=mount.path)
    end(volume, mount, files, disk)


def case_no_room_to_settle(suite, place):
    """Patched and inline files, and not a byte for the reconciler: it waits, and loses nothing."""
    disk = loopdev.small_fs(f"{place}/image", f"{place}/disk", 120 << 20)
    filler = Filler(disk)
    volume, mount, files = volume_on(suite, disk, place)
    for number in range(20):
        files.put(f"inline-{number}", files.rng.randbytes(9000))
    for name in ("old-0", "old-1", "old-2"):
        files.scatter(name, 20)
    check(not files.unsure, "there should be room for this")
    filler.fill()
    suite.massfs("settle", "--wait", mount.path, ok=None, timeout=120)
    files.verify("after a settle without room")
    check(mount.alive(), "the daemon died")
    filler.remove()
    end(volume, mount, files, disk)


def case_cache(suite, place):
    """The folder of the cache is full, then gone: reads are right, and nobody hears of it."""
    disk = loopdev.small_fs(f"{place}/image", f"{place}/disk", 300 << 20)
    cache = loopdev.small_fs(f"{place}/cache-image", f"{place}/cache", 24 << 20)
    filler = Filler(cache)
    volume, mount, files = volume_on(suite, disk, place, f",cache-dir={cache},cache-size=1G,cache-free=0,cache-local")
    files.put("big", files.rng.randbytes(40 << 20))

    def read_all(when):
        for _ in range(2):
            mfs.drop_caches()
            files.verify(when)
        files.work(10)
        check(not files.unsure, f"{when}: a full cache is no reason for ENOSPC")
    read_all("with a cache that is smaller than the file")
    filler.fill()
    read_all("with a full cache folder")
    run(["umount", "-l", cache])
    read_all("with a cache folder that has gone")
    check(mount.alive(), "the daemon died")
    end(volume, mount, files, disk)


if __name__ == "__main__":
    mfs.run_free_cases("diskfull", __doc__, dict(globals()))
