#!/usr/bin/env python3
"""Names and directories: every byte, lengths, rename flags, links, listing while deleting, streaming."""
import ctypes
import errno
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import (RENAME_EXCHANGE, RENAME_NOREPLACE, check, get, massfs_only, put, raises, renameat2, run_cases,
                 same)


def case_names_of_any_bytes(case):
    names = [bytes([byte]) for byte in range(1, 256) if byte not in (ord("/"), ord("."))]
    names += [b"\xff\xfe", "ä€𝄞".encode(), "a\u0308".encode(), b"\xc3\x28", b" lead and trail ", b"new\nline",
              b"-rf", b"...", b"a" * 255, b"\xff" * 255, "é".encode() * 127, b".name.XXXXXX", b"x.part", b"%2F",
              b"con", b"a:b*c?d|e", b"objects", b".massfs"]
    base = os.fsencode(case.dir)
    for name in names:
        put(os.path.join(base, name), name)
    same(sorted(os.listdir(base)), sorted(names), "names")
    case.remount()
    same(sorted(os.listdir(base)), sorted(names), "names after a remount")
    for name in names:
        same(get(os.path.join(base, name)), name, "content")
    for name in names:
        os.rename(os.path.join(base, name), os.path.join(base, b"other"))
        os.rename(os.path.join(base, b"other"), os.path.join(base, name))
    for name in names:
        os.unlink(os.path.join(base, name))
    same(os.listdir(base), [], "names after unlink")


def case_name_too_long(case):
    raises(errno.ENAMETOOLONG, put, case.path("a" * 256))
    raises(errno.ENAMETOOLONG, os.mkdir, case.path("a" * 256))
    raises(errno.ENAMETOOLONG, os.stat, case.path("a" * 256))
    put(case.path("f"))
    raises(errno.ENAMETOOLONG, os.rename, case.path("f"), case.path("b" * 256))
    raises(errno.ENAMETOOLONG, os.symlink, "x" * 4096, case.path("l"))
    os.symlink("x" * 4095, case.path("longest"))
    same(os.readlink(case.path("longest")), "x" * 4095, "longest symbolic link")


def case_deep_path(case):
    """Deeper than any key (1,024 bytes) and than PATH_MAX; content is kept all the same."""
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(case.dir)
        for _ in range(60):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        put("f", b"deep")
        same(get("f"), b"deep", "content")
        here = os.stat("f").st_ino
        for _ in range(60):
            os.chdir("..")
        same(os.getcwd(), os.path.realpath(case.dir), "way back")
    finally:
        os.fchdir(home)
        os.close(home)
    case.remount()
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(case.dir)
        for _ in range(60):
            os.chdir("d" * 100)
        same(get("f"), b"deep", "content after a remount")
        same(os.stat("f").st_ino, here, "inode after a remount")
        os.chdir(case.dir)
    finally:
        os.fchdir(home)
        os.close(home)
    mfs.run(["rm", "-r", case.path("d" * 100)])


def case_rename_noreplace(case):
    put(case.path("a"), b"a")
    put(case.path("b"), b"b")
    raises(errno.EEXIST, renameat2, case.path("a"), case.path("b"), RENAME_NOREPLACE)
    renameat2(case.path("a"), case.path("c"), RENAME_NOREPLACE)
    same(sorted(os.listdir(case.dir)), ["b", "c"], "names")
    raises(errno.EINVAL, renameat2, case.path("b"), case.path("c"), RENAME_NOREPLACE | RENAME_EXCHANGE)


def case_rename_exchange(case):
    put(case.path("file"), b"content")
    os.makedirs(case.path("dir/sub"))
    put(case.path("dir/sub/inner"), b"inner")
    inodes = os.stat(case.path("file")).st_ino, os.stat(case.path("dir")).st_ino
    renameat2(case.path("file"), case.path("dir"), RENAME_EXCHANGE)
    same((os.stat(case.path("dir")).st_ino, os.stat(case.path("file")).st_ino), inodes, "inodes")
    same(get(case.path("dir")), b"content", "content")
    same(get(case.path("file/sub/inner")), b"inner", "content below")
    put(case.path("file/sub/other"), b"other")
    renameat2(case.path("dir"), case.path("file/sub/other"), RENAME_EXCHANGE)
    same((get(case.path("dir")), get(case.path("file/sub/other"))), (b"other", b"content"), "content")
    raises(errno.ENOENT, renameat2, case.path("dir"), case.path("nothing"), RENAME_EXCHANGE)
    raises(errno.EINVAL, renameat2, case.path("file"), case.path("file/sub"), RENAME_EXCHANGE)
    case.remount()
    same((get(case.path("dir")), get(case.path("file/sub/other"))), (b"other", b"content"), "after a remount")
    same(get(case.path("file/sub/inner")), b"inner", "content below after a remount")


def case_rename_rules(case):
    os.makedirs(case.path("a/b/c"))
    os.mkdir(case.path("empty"))
    put(case.path("f"), b"f")
    raises(errno.EINVAL, os.rename, case.path("a"), case.path("a/b/c/d"))
    raises(errno.ENOTEMPTY, os.rename, case.path("empty"), case.path("a"))
    raises(errno.EISDIR, os.rename, case.path("f"), case.path("empty"))
    raises(errno.ENOTDIR, os.rename, case.path("empty"), case.path("f"))
    raises(errno.ENOENT, os.rename, case.path("none"), case.path("x"))
    os.rename(case.path("a/b"), case.path("empty"))
    same(os.listdir(case.path("empty")), ["c"], "directory moved over an empty one")
    os.link(case.path("f"), case.path("g"))
    os.rename(case.path("f"), case.path("g"))
    same(sorted(n for n in os.listdir(case.dir) if n in "fg"), ["f", "g"], "two names of one file: rename does nothing")
    os.rename(case.path("f"), case.path("f"))


def case_create_after_directory_rename(case):
    """A directory open by descriptor goes on to work where it has moved to."""
    os.mkdir(case.path("old"))
    fd = os.open(case.path("old"), os.O_RDONLY)
    os.rename(case.path("old"), case.path("new"))
    os.mkdir(case.path("old"))
    handle = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(handle, b"moved")
    os.close(handle)
    os.close(fd)
    same(get(case.path("new/f")), b"moved", "content")
    same(os.listdir(case.path("old")), [], "the new directory at the old name")


def case_hard_links(case):
    put(case.path("a"), b"one")
    os.mkdir(case.path("d"))
    os.link(case.path("a"), case.path("d/b"))
    os.link(case.path("d/b"), case.path("c"))
    same([os.stat(case.path(n)).st_nlink for n in ("a", "d/b", "c")], [3, 3, 3], "nlink")
    same(len({os.stat(case.path(n)).st_ino for n in ("a", "d/b", "c")}), 1, "inodes")
    put(case.path("d/b"), b"another")
    same(get(case.path("c")), b"another", "content through another name")
    os.unlink(case.path("a"))
    same(os.stat(case.path("c")).st_nlink, 2, "nlink after the first name has gone")
    same(get(case.path("c")), b"another", "content")
    case.remount()
    same(os.stat(case.path("c")).st_nlink, 2, "nlink after a remount")
    same(os.stat(case.path("c")).st_ino, os.stat(case.path("d/b")).st_ino, "inodes")
    os.rename(case.path("c"), case.path("d/b"))  # names of one file: nothing happens
    same(os.stat(case.path("c")).st_nlink, 2, "nlink")
    os.unlink(case.path("c"))
    same(os.stat(case.path("d/b")).st_nlink, 1, "nlink at the end")
    os.unlink(case.path("d/b"))
    raises((errno.EPERM, errno.EACCES), os.link, case.path("d"), case.path("dir-link"))
    os.symlink("nowhere", case.path("sym"))
    os.link(case.path("sym"), case.path("sym2"), follow_symlinks=False)
    same(os.lstat(case.path("sym2")).st_nlink, 2, "nlink of a symbolic link")


def case_hard_link_of_open_unlinked_file(case):
    path = put(case.path("f"), b"x")
    os.link(path, case.path("g"))
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    os.unlink(case.path("g"))
    same(os.fstat(fd).st_nlink, 0, "nlink")
    os.write(fd, b"still here")
    same(os.pread(fd, 20, 0), b"still here", "content")
    os.close(fd)


def case_inodes_are_stable(case):
    os.makedirs(case.path("d/e"))
    paths = [case.path("d"), case.path("d/e"), case.dir]
    for number in range(50):
        paths.append(put(case.path(f"d/f{number}"), b"x"))
    os.symlink("x", case.path("d/l"))
    paths.append(case.path("d/l"))
    before = {p: os.lstat(p).st_ino for p in paths}
    check(len(set(before.values())) == len(before), "two files with one inode number")
    listed = {e.name: e.inode() for e in os.scandir(case.path("d"))}
    case.remount()
    same({p: os.lstat(p).st_ino for p in paths}, before, "inodes after a remount")
    same({e.name: e.inode() for e in os.scandir(case.path("d"))}, listed, "d_ino after a remount")
    same({n: os.lstat(case.path("d", n)).st_ino for n in listed}, listed, "d_ino and st_ino")
    os.rename(case.path("d/f1"), case.path("moved"))
    same(os.stat(case.path("moved")).st_ino, before[case.path("d/f1")], "inode after rename")
    put(case.path("d/f2"), b"rewritten")
    same(os.stat(case.path("d/f2")).st_ino, before[case.path("d/f2")], "inode after a rewrite")


@massfs_only
def case_inodes_are_not_used_again(case):
    seen = set()
    for number in range(100):
        path = put(case.path("f"), b"%d" % number)
        ino = os.stat(path).st_ino
        check(ino not in seen, f"inode {ino} used again")
        seen.add(ino)
        os.unlink(path)


class Dirent(ctypes.Structure):
    _fields_ = [("d_ino", ctypes.c_uint64), ("d_off", ctypes.c_int64), ("d_reclen", ctypes.c_uint16),
                ("d_type", ctypes.c_uint8), ("d_name", ctypes.c_char * 256)]


class Directory:
    """opendir, readdir, telldir, seekdir as C has them."""

    def __init__(self, path):
        mfs.LIBC.opendir.restype = ctypes.c_void_p
        mfs.LIBC.readdir.restype = ctypes.POINTER(Dirent)
        mfs.LIBC.telldir.restype = ctypes.c_long
        self.handle = ctypes.c_void_p(mfs.LIBC.opendir(os.fsencode(path)))
        check(self.handle.value, f"opendir {path}")

    def read(self):
        entry = mfs.LIBC.readdir(self.handle)
        return entry.contents.d_name if entry else None

    def tell(self):
        return mfs.LIBC.telldir(self.handle)

    def seek(self, offset):
        mfs.LIBC.seekdir(self.handle, ctypes.c_long(offset))

    def rewind(self):
        mfs.LIBC.rewinddir(self.handle)

    def close(self):
        mfs.LIBC.closedir(self.handle)


def case_seekdir_across_reopen(case):
    """An offset got from one opendir names the same place in another, and after deletions."""
    for number in range(2000):
        os.mkdir(case.path(f"d{number:04}")) if number % 10 == 0 else put(case.path(f"f{number:04}"))
    first = Directory(case.dir)
    order, offsets = [], []
    while (name := first.read()) is not None:
        order.append(name)
        offsets.append(first.tell())
    same(len(order), 2002, "entries")
    for place in (0, 1, 2, 500, 1999, 2000):
        first.seek(offsets[place])
        same(first.read(), order[place + 1], f"entry after offset {place}")
    first.close()
    second = Directory(case.dir)
    for place in (1500, 3, 700):
        second.seek(offsets[place])
        same(second.read(), order[place + 1], f"entry after offset {place} in another opendir")
    for name in order[2:700]:
        if name.startswith(b"f"):
            os.unlink(os.path.join(os.fsencode(case.dir), name))
    for place in (701, 1500):
        second.seek(offsets[place])
        rest = []
        while (name := second.read()) is not None:
            rest.append(name)
        same(rest, order[place + 1:], f"rest after offset {place} with deletions before it")
    second.close()


def case_delete_while_reading(case):
    """rm -r in one go: whatever is removed between two readdirs, nothing is missed."""
    count = 1000 if case.suite.args.store == "cluster" else 3000
    for number in range(count):
        put(case.path(f"f{number}"))
    directory = Directory(case.dir)
    seen = 0
    while (name := directory.read()) is not None:
        if name not in (b".", b".."):
            os.unlink(os.path.join(os.fsencode(case.dir), name))
            seen += 1
    directory.close()
    same(seen, count, "entries seen")
    same(os.listdir(case.dir), [], "what is left")


def case_rename_while_reading(case):
    """A file that is renamed within the directory during a listing is seen at least once."""
    for number in range(1000):
        put(case.path(f"f{number}"))
    directory = Directory(case.dir)
    seen = {directory.read() for _ in range(200)}
    for number in range(1000):
        os.rename(case.path(f"f{number}"), case.path(f"g{number}"))
    while (name := directory.read()) is not None:
        seen.add(name)
    directory.close()
    numbers = {name[1:] for name in seen if name not in (b".", b"..")}
    same(len(numbers), 1000, "files seen under either name")


def case_rewinddir_sees_news(case):
    directory = Directory(case.dir)
    while directory.read() is not None:
        pass
    put(case.path("new"))
    directory.rewind()
    names = set()
    while (name := directory.read()) is not None:
        names.add(name)
    directory.close()
    same(names, {b".", b"..", b"new"}, "names")


def case_dot_and_dotdot(case):
    os.mkdir(case.path("d"))
    directory = Directory(case.path("d"))
    same({directory.read(), directory.read()}, {b".", b".."}, "entries of an empty directory")
    same(directory.read(), None, "third entry")
    directory.close()
    same(os.stat(case.path("d/..")).st_ino, os.stat(case.dir).st_ino, "..")
    raises((errno.EINVAL, errno.EBUSY), os.rmdir, case.path("d/."))
    raises((errno.ENOTEMPTY, errno.EBUSY), os.rmdir, case.path("d/.."))


def case_big_directory(case):
    """20,000 entries stream; a million in the long share, with a bound on the daemon's memory."""
    count = 1_000_000 if case.suite.long and not case.suite.sanitizer else 20_000
    if case.suite.sanitizer:
        count = 5_000
    if case.suite.args.store == "cluster":  # each takes seven requests of a database's server
        count = 5_000 if case.suite.long else 1_000
    os.mkdir(case.path("d"))
    parts = 4

    def fill(part):
        fd = os.open(case.path("d"), os.O_RDONLY)
        for number in range(part, count, parts):
            os.mknod(f"f{number}", 0o100644, dir_fd=fd)
        os.close(fd)
    threads = [threading.Thread(target=fill, args=(p,)) for p in range(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    case.remount()
    before = 0 if case.suite.plain else case.mount.status("VmRSS")
    seen = 0
    with os.scandir(case.path("d")) as entries:
        for entry in entries:
            check(entry.name.startswith("f"), entry.name)
            seen += 1
    same(seen, count, "entries")
    if not case.suite.plain:
        grown = case.mount.status("VmHWM") - before
        print(f"       {count} entries listed, the daemon grew by {grown // 1024} MiB", flush=True)
        # readdirplus lets the kernel hold on to inodes, so a share per entry is allowed: 400 bytes of it.
        check(case.suite.sanitizer or grown < 64 * 1024 + count * 400 // 1024, f"the daemon grew by {grown} KiB")
    names = set(os.listdir(case.path("d")))
    same(len(names), count, "different names")
    for number in range(0, count, max(1, count // 1000)):
        os.unlink(case.path(f"d/f{number}"))
    same(len(os.listdir(case.path("d"))), count - len(range(0, count, max(1, count // 1000))), "after deletions")
    if count <= 20_000:
        mfs.run(["rm", "-r", case.path("d")])


@massfs_only
def case_reserved_directory_is_hidden(case):
    root = case.mount.path
    check(".massfs" not in os.listdir(root), "/.massfs in the listing")
    for entry in os.scandir(root):
        check(entry.name not in ("objects", "v", "index.db", "tmp"), f"{entry.name} of the volume shows")
    raises((errno.EPERM, errno.EACCES, errno.EEXIST, errno.EISDIR, errno.EINVAL), os.mkdir, f"{root}/.massfs")
    raises((errno.EPERM, errno.EACCES, errno.EEXIST, errno.EISDIR, errno.EINVAL), put, f"{root}/.massfs")
    put(case.path("f"))
    raises((errno.EPERM, errno.EACCES, errno.EEXIST, errno.EISDIR, errno.EINVAL, errno.ENOTDIR, errno.ENOENT),
           os.rename, case.path("f"), f"{root}/.massfs")
    put(case.path(".massfs"), b"only the root's is reserved")


def case_sticky_directory(case):
    os.mkdir(case.path("t"))
    os.chmod(case.path("t"), 0o1777)
    mfs.as_user(1000, 1000, lambda: put(case.path("t/mine"), b"x") and True)
    raises((errno.EPERM, errno.EACCES), mfs.as_user, 1001, 1001, os.unlink, case.path("t/mine"))
    raises((errno.EPERM, errno.EACCES), mfs.as_user, 1001, 1001, os.rename, case.path("t/mine"), case.path("t/x"))
    mfs.as_user(1000, 1000, os.unlink, case.path("t/mine"))


def case_parallel_creates_of_one_name(case):
    """O_EXCL has one winner, mkdir too."""
    for number in range(100):
        wins = []
        barrier = threading.Barrier(4)

        def attempt(path=case.path(f"f{number}"), wins=wins, barrier=barrier):
            barrier.wait()
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                wins.append(1)
            except FileExistsError:
                pass
        threads = [threading.Thread(target=attempt) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same(len(wins), 1, f"winners of f{number}")


def case_parallel_rmdir_and_create(case):
    """Never an orphan: either the directory is gone or the file is in it."""
    for number in range(200):
        path = case.path(f"d{number}")
        os.mkdir(path)
        barrier = threading.Barrier(2)
        made = []

        def create(path=path, barrier=barrier, made=made):
            barrier.wait()
            try:
                put(f"{path}/x")
                made.append(1)
            except FileNotFoundError:
                pass
        thread = threading.Thread(target=create)
        thread.start()
        barrier.wait()
        try:
            os.rmdir(path)
            removed = True
        except OSError as error:
            same(error.errno, errno.ENOTEMPTY, "rmdir")
            removed = False
        thread.join()
        same(bool(made), not removed, "created, if not removed")
        same(os.path.exists(f"{path}/x"), bool(made), "the file is there")


def case_no_cycles(case):
    """mv a b/a against mv b a/b: one of them must fail."""
    for number in range(100):
        a, b = case.path(f"a{number}"), case.path(f"b{number}")
        os.mkdir(a)
        os.mkdir(b)
        barrier = threading.Barrier(2)

        def move(old, new, barrier=barrier):
            barrier.wait()
            try:
                os.rename(old, new)
            except OSError as error:
                check(error.errno in (errno.ENOENT, errno.EINVAL), str(error))
        threads = [threading.Thread(target=move, args=(a, f"{b}/x")), threading.Thread(target=move, args=(b, f"{a}/x"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same(os.path.isdir(a) + os.path.isdir(b), 1, "directories left at the top")
        same(os.path.isdir(f"{a}/x") + os.path.isdir(f"{b}/x"), 1, "directories moved below")


if __name__ == "__main__":
    run_cases("posix_names", __doc__, globals())
