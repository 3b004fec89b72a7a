#!/usr/bin/env python3
"""Damage and lack: a corrupt index, missing and short objects, a full disk, a read-only directory.

Each must give a clear message and an errno, and lose nothing: once the cause is gone, all is there.
"""
import errno
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import MountError, Skip, check, get, noise, put, raises, run, run_free_cases, same


def filled(suite, place, count=30, opts="allow_other"):
    """A volume with files, unmounted; and what they hold."""
    volume = mfs.Volume(suite, os.path.basename(place), f"{place}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount(opts, path=f"{place}/m")
    contents = {}
    os.mkdir(f"{mount.path}/d")
    for number in range(count):
        name = f"d/f{number}" if number % 2 else f"f{number}"
        contents[name] = noise(number, 100 + number * 777)
        put(f"{mount.path}/{name}", contents[name])
    mount.umount()
    return volume, f"{place}/m", contents


def verify(mount, contents, but=()):
    for name, data in contents.items():
        if name not in but:
            check(get(f"{mount.path}/{name}") == data, f"content of {name}")


def refuses(volume, mnt, says):
    """The mount ends with mount(8)'s code and a message that names the matter."""
    try:
        mount = volume.mount("allow_other", path=mnt)
    except MountError as error:
        same(error.rc, 32, f"exit code ({error.text.strip()[-500:]})")
        for word in says:
            check(word in error.text, f"the message lacks '{word}': {error.text.strip()[-500:]}")
        return error.text
    mount.umount()
    raise mfs.Failure("it mounts all the same")


def index(volume):
    return f"{volume.dir}/.massfs/index.db"


def version_file(volume, path):
    """The version that a view file is a link to."""
    ino = os.stat(volume.object(path)).st_ino
    for where, _, names in os.walk(f"{volume.dir}/.massfs/v"):
        for name in names:
            if os.stat(f"{where}/{name}").st_ino == ino:
                return f"{where}/{name}"
    raise mfs.Failure(f"no version file for {path}")


def case_index_is_no_database(suite, place):
    volume, mnt, contents = filled(suite, place)
    saved = get(index(volume))
    put(index(volume), b"this is not a database, by no means " * 1000)
    refuses(volume, mnt, ["index.db"])
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and text.strip(), f"fsck of a volume without an index: {rc}, {text}")
    put(index(volume), saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_index_pages_are_garbage(suite, place):
    """All pages but the first: found at the mount, or at the first access, never silently."""
    volume, mnt, contents = filled(suite, place, 300)
    saved = get(index(volume))
    put(index(volume), saved[:4096] + bytes(255 - b for b in saved[4096:]))
    try:
        mount = volume.mount("allow_other", path=mnt)
    except MountError as error:
        same(error.rc, 32, "exit code")
        check("index.db" in error.text or "corrupt" in error.text or "malformed" in error.text, error.text)
    else:
        numbers = set()
        for name in contents:
            try:
                check(get(f"{mount.path}/{name}") == contents[name], f"{name}: wrong content from a broken index")
            except OSError as error:
                numbers.add(error.errno)
        check(numbers and numbers <= {errno.EIO, errno.EUCLEAN}, f"errors {numbers}")
        check(mount.alive(), "the daemon died")
        check("corrupt" in mount.log_text() or "malformed" in mount.log_text(), "nothing in the log")
        suite.mounts.remove(mount)
        run(["umount", mnt], ok=None)
        mount.process.wait(60)
    for name in ("index.db-wal", "index.db-shm"):
        if os.path.exists(f"{volume.dir}/.massfs/{name}"):
            os.unlink(f"{volume.dir}/.massfs/{name}")
    put(index(volume), saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_index_is_cut_short(suite, place):
    volume, mnt, contents = filled(suite, place, 300)
    saved = get(index(volume))
    os.truncate(index(volume), len(saved) // 2 // 4096 * 4096)
    try:
        mount = volume.mount("allow_other", path=mnt)
    except MountError as error:
        same(error.rc, 32, "exit code")
        check(error.text.strip(), "no message")
    else:
        for name in contents:
            try:
                check(get(f"{mount.path}/{name}") == contents[name], f"{name}: wrong content")
            except OSError as error:
                check(error.errno in (errno.EIO, errno.EUCLEAN), str(error))
        suite.mounts.remove(mount)
        run(["umount", mnt], ok=None)
        mount.process.wait(60)
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and text.strip(), f"fsck finds a cut index clean: {text}")
    for name in ("index.db-wal", "index.db-shm"):
        if os.path.exists(f"{volume.dir}/.massfs/{name}"):
            os.unlink(f"{volume.dir}/.massfs/{name}")
    put(index(volume), saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_index_is_missing(suite, place):
    volume, mnt, contents = filled(suite, place)
    os.rename(index(volume), f"{place}/saved")
    refuses(volume, mnt, [])
    check(not os.path.exists(index(volume)), "an empty index was made in place of the missing one")
    os.rename(f"{place}/saved", index(volume))
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_object_is_missing(suite, place):
    volume, mnt, contents = filled(suite, place)
    os.rename(version_file(volume, "f2"), f"{place}/saved")
    where = volume.object("f2")
    os.unlink(where)
    mount = volume.mount("allow_other", path=mnt)
    raises(errno.EIO, get, f"{mnt}/f2")
    same(os.stat(f"{mnt}/f2").st_size, len(contents["f2"]), "size of the file without data")
    check("f2" in mount.log_text() or "missing" in mount.log_text(), f"nothing in the log: {mount.log_text()}")
    verify(mount, contents, but=("f2",))
    put(f"{mnt}/f4", b"others can be written")
    mount.umount()
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and "f2" in text, f"fsck does not name the file without data: {rc}, {text}")
    mount = volume.mount("allow_other", path=mnt)
    put(f"{mnt}/f2", b"written anew")
    same(get(f"{mnt}/f2"), b"written anew", "content written anew")
    same(get(f"{mnt}/f4"), b"others can be written", "content")
    mount.umount()
    rc, text = suite.massfs("fsck", volume.dir, ok=None)  # what is lost is now a version, and still said to be
    check(rc != 0 and "f2" in text, f"fsck forgets the version without data: {rc}, {text}")


def case_object_is_cut_short(suite, place):
    volume, mnt, contents = filled(suite, place)
    path = version_file(volume, "d/f9")
    saved = get(path)
    os.chmod(path, 0o600)
    os.truncate(path, len(saved) // 2)
    mount = volume.mount("allow_other", path=mnt)
    raises(errno.EIO, get, f"{mnt}/d/f9")
    verify(mount, contents, but=("d/f9",))
    mount.umount()
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and "f9" in text, f"fsck does not name the short file: {rc}, {text}")
    put(path, saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_view_was_tampered_with(suite, place):
    """objects/ is a view for people: what is done to its names does not change what the mount reads."""
    volume, mnt, contents = filled(suite, place)
    os.unlink(volume.object("f0"))
    os.unlink(volume.object("f2"))
    put(volume.object("f2"), b"foreign")
    shutil.rmtree(volume.object("d"))
    put(volume.object("d"), b"a file where a folder must be")
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    put(f"{mnt}/d/f1", b"new")
    put(f"{mnt}/f2", b"newer")
    same((get(f"{mnt}/d/f1"), get(f"{mnt}/f2")), (b"new", b"newer"), "content")
    mount.umount()


def case_read_only_directory(suite, place):
    volume, mnt, contents = filled(suite, place)
    run(["mount", "--bind", volume.dir, volume.dir])
    run(["mount", "-o", "remount,bind,ro", volume.dir])
    try:
        text = refuses(volume, mnt, [])
        check("read-only" in text.lower() or "EROFS" in text, f"the message does not say read-only: {text}")
    finally:
        run(["umount", volume.dir])
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def small_disk(place, megabytes):
    """A filesystem of this size, with hard links and user xattrs."""
    disk = f"{place}/disk"
    os.mkdir(disk)
    with open(f"{place}/image", "wb") as file:
        file.truncate(megabytes << 20)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", f"{place}/image"])
    rc, text = run(["mount", "-o", "loop", f"{place}/image", disk], ok=None)
    if rc != 0:
        rc, _ = run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], ok=None)
        try:
            os.setxattr(put(f"{disk}/probe"), "user.probe", b"")
            os.unlink(f"{disk}/probe")
        except OSError as error:
            raise Skip(f"neither a loop device ({text.strip()}) nor a tmpfs with user xattrs") from error
    return disk


def write_until_full(mnt, size, limit=400):
    """The errors of open, write, fsync and close are all the same: ENOSPC, told to the caller."""
    done = {}
    for number in range(limit):
        data = noise(number, size)
        path = f"{mnt}/full-{size}-{number}"
        fd = None
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
            if number % 2:
                os.fsync(fd)
            closing, fd = fd, None
            os.close(closing)
            done[path] = data
        except OSError as error:
            same(error.errno, errno.ENOSPC, "errno of a full disk")
            if fd is not None:
                try:
                    os.close(fd)
                except OSError as second:
                    same(second.errno, errno.ENOSPC, "errno of the close after it")
            return done
    raise mfs.Failure("the disk does not get full")


def case_full_disk(suite, place):
    disk = small_disk(place, 96)
    volume = mfs.Volume(suite, "full", f"{disk}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount("allow_other", path=f"{place}/m")
    put(f"{mount.path}/before", b"before" * 1000)
    os.mkdir(f"{mount.path}/d")
    for size in (9 << 20, 300_000, 5000):
        done = write_until_full(mount.path, size, 3000)
        for path, data in done.items():
            check(get(path) == data, f"content of {path}, acknowledged before the disk was full")
    same(get(f"{mount.path}/before"), b"before" * 1000, "content of an old file")
    check(mount.alive(), "the daemon died")
    check(os.statvfs(mount.path).f_bavail * os.statvfs(mount.path).f_frsize < 12 << 20, "statvfs does not say so")
    old = {n: get(f"{mount.path}/{n}") for n in ("before", "full-9437184-0")}
    try:  # an overwrite that fails leaves the old content
        put(f"{mount.path}/full-9437184-0", noise("new", 20 << 20))
    except OSError as error:
        same(error.errno, errno.ENOSPC, "errno")
    content = get(f"{mount.path}/full-9437184-0")
    check(content in (old["full-9437184-0"], b""), f"an overwrite that failed left {len(content)} bytes of neither content")
    mount.umount()
    run(["mount", "-o", "remount", disk], ok=None)
    volume.fsck()
    mount = volume.mount("allow_other", path=f"{place}/m")
    same(get(f"{mount.path}/before"), old["before"], "content after a remount")
    mount.umount()
    run(["umount", disk])


def case_full_disk_for_the_index(suite, place):
    """Somebody else fills the disk to the last byte while the volume is mounted."""
    disk = small_disk(place, 64)
    volume = mfs.Volume(suite, "index-full", f"{disk}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount("allow_other", path=f"{place}/m")
    for number in range(20):
        put(f"{mount.path}/f{number}", noise(number, 1000))
    fill = os.open(f"{disk}/filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fill, bytes(65536))
    except OSError:
        pass
    try:
        while True:
            os.write(fill, bytes(512))
    except OSError:
        pass
    made, errors = [], set()
    for number in range(3000):
        try:
            os.mkdir(f"{mount.path}/d{number}")
            made.append(f"d{number}")
            os.setxattr(f"{mount.path}/d{number}", "user.fill", b"x" * 3000)
        except OSError as error:
            errors.add(error.errno)
            if number > 100:
                break
    check(errors <= {errno.ENOSPC}, f"errors {[errno.errorcode[e] for e in errors]}")
    check(mount.alive(), "the daemon died")
    for number in range(20):
        check(get(f"{mount.path}/f{number}") == noise(number, 1000), "content while the disk is full")
    os.close(fill)
    os.unlink(f"{disk}/filler")
    put(f"{mount.path}/after", b"there is room again")
    mount.umount()
    volume.fsck()
    mount = volume.mount("allow_other", path=f"{place}/m")
    same(get(f"{mount.path}/after"), b"there is room again", "content")
    missing = [n for n in made if not os.path.isdir(f"{mount.path}/{n}")]
    same(missing, [], "directories that were acknowledged")
    mount.umount()
    run(["umount", disk])


def case_leftover_lock_and_temporary_files(suite, place):
    """What a machine that lost power leaves beside the index."""
    volume, mnt, contents = filled(suite, place)
    put(f"{volume.dir}/.massfs/tmp/left-by-a-crash", noise(1, 100000))
    put(f"{volume.dir}/.massfs/lock", b"999999\n")
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()
    suite.massfs("gc", "--delete", volume.dir)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_close_reports_the_error(suite, place):
    """An object store that cannot be written under a running daemon: close says so, the old content stays."""
    volume, mnt, contents = filled(suite, place)
    mount = volume.mount("allow_other", path=mnt)
    folders = [f"{volume.dir}/.massfs/tmp"]
    for where, names, _ in os.walk(f"{volume.dir}/.massfs/v"):
        folders += [where, *[f"{where}/{n}" for n in names]]
    if run(["chattr", "+i", *folders], ok=None)[0] != 0:
        run(["chattr", "-i", *folders], ok=None)
        raise Skip("chattr +i is not possible here")
    try:
        for size in (10, 8 << 20):
            raises((errno.EIO, errno.EPERM, errno.EACCES, errno.EROFS), put, f"{mnt}/f0", noise(1, size))
            check(get(f"{mnt}/f0") in (contents["f0"], b""), "content after the failed close")
        raises((errno.EIO, errno.EPERM, errno.EACCES, errno.EROFS), put, f"{mnt}/new", b"cannot be stored")
    finally:
        run(["chattr", "-i", *folders])
    verify(mount, contents, but=("f0",))
    put(f"{mnt}/f0", b"now it can")
    same(get(f"{mnt}/f0"), b"now it can", "content")
    mount.umount()
    volume.fsck()


if __name__ == "__main__":
    run_free_cases("damage", __doc__, globals())
