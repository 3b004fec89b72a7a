#!/usr/bin/env python3
"""Attributes: times, modes, owners, extended attributes, ACLs, statfs."""
import ctypes
import errno
import os
import stat
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Skip, as_user, check, get, massfs_only, put, raises, run, run_cases, same

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2


class Timespec(ctypes.Structure):
    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


def utimensat(path, atime, mtime, flags=0):
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    mfs.libc("utimensat", -100, os.fsencode(path), times, flags)


def case_nanosecond_times(case):
    path = put(case.path("f"), b"x")
    os.utime(path, ns=(1234567890123456789, 1700000000987654321))
    state = os.stat(path)
    same((state.st_atime_ns, state.st_mtime_ns), (1234567890123456789, 1700000000987654321), "times")
    case.remount()
    state = os.stat(path)
    same((state.st_atime_ns, state.st_mtime_ns), (1234567890123456789, 1700000000987654321), "after a remount")


def case_times_before_1970_and_far_away(case):
    for number, mtime in enumerate((-1, -1_000_000_000, -86400 * 365 * 60 * 10**9 + 123, 0, 4102444800 * 10**9,
                                    2**33 * 10**9 + 7)):
        path = put(case.path(f"f{number}"))
        os.utime(path, ns=(mtime, mtime))
        same(os.stat(path).st_mtime_ns, mtime, "mtime")
    os.mkdir(case.path("d"))
    os.utime(case.path("d"), ns=(-5, -7))
    case.remount()
    same(os.stat(case.path("f2")).st_mtime_ns, -86400 * 365 * 60 * 10**9 + 123, "mtime after a remount")
    same(os.stat(case.path("d")).st_mtime_ns, -7, "mtime of a directory")
    same(os.stat(case.path("f0")).st_mtime_ns, -1, "mtime of -1 ns")


def case_utime_now_and_omit(case):
    path = put(case.path("f"))
    os.utime(path, ns=(111, 222))
    utimensat(path, (0, UTIME_OMIT), (5, 6))
    same((os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns), (111, 5 * 10**9 + 6), "atime omitted")
    utimensat(path, (7, 8), (0, UTIME_OMIT))
    same((os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns), (7 * 10**9 + 8, 5 * 10**9 + 6), "mtime omitted")
    before = time.time_ns() - 10**7
    utimensat(path, (0, UTIME_OMIT), (0, UTIME_NOW))
    check(before <= os.stat(path).st_mtime_ns <= time.time_ns(), "mtime is not now")
    ctime = os.stat(path).st_ctime_ns
    time.sleep(0.02)
    utimensat(path, (0, UTIME_OMIT), (0, UTIME_OMIT))
    same(os.stat(path).st_ctime_ns, ctime, "ctime when both are omitted")
    os.symlink("x", case.path("l"))
    utimensat(case.path("l"), (1, 2), (3, 4), 0x100)
    same(os.lstat(case.path("l")).st_mtime_ns, 3 * 10**9 + 4, "mtime of a symbolic link")


def moved(case, path, call, *fields):
    """These times move forward by the call, and are of now."""
    before = os.lstat(path)
    time.sleep(0.02)
    call()
    after = os.lstat(path)
    for field in ("st_mtime_ns", "st_ctime_ns"):
        if field in fields:
            check(getattr(after, field) > getattr(before, field), f"{field} did not move")
            check(abs(time.time_ns() - getattr(after, field)) < 5 * 10**9, f"{field} is not of now")
        else:
            same(getattr(after, field), getattr(before, field), field)


def case_ctime_and_mtime_follow(case):
    both, ctime = ("st_mtime_ns", "st_ctime_ns"), ("st_ctime_ns",)
    path = put(case.path("f"), b"x")
    moved(case, path, lambda: put(path, b"y"), *both)
    moved(case, path, lambda: os.chmod(path, 0o600), *ctime)
    moved(case, path, lambda: os.chown(path, 1, 1), *ctime)
    moved(case, path, lambda: os.link(path, case.path("g")), *ctime)
    moved(case, path, lambda: os.unlink(case.path("g")), *ctime)
    moved(case, path, lambda: os.setxattr(path, "user.a", b"b"), *ctime)
    moved(case, path, lambda: os.removexattr(path, "user.a"), *ctime)
    moved(case, path, lambda: os.truncate(path, 5), *both)
    moved(case, path, lambda: get(path))
    moved(case, case.dir, lambda: put(case.path("h")), *both)
    moved(case, case.dir, lambda: put(case.path("h"), b"content only"))
    moved(case, case.dir, lambda: os.rename(case.path("h"), case.path("i")), *both)
    moved(case, case.dir, lambda: os.unlink(case.path("i")), *both)
    moved(case, case.dir, lambda: os.mkdir(case.path("d")), *both)
    moved(case, case.dir, lambda: put(case.path("d/x")))


def case_mtime_is_of_the_write(case):
    """Data are uploaded at close; the time is that of write, and a time set in between stays."""
    path = case.path("f")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x" * 10000)
    os.utime(fd, ns=(5, 6))
    os.close(fd)
    same(os.stat(path).st_mtime_ns, 6, "mtime set before close")
    case.remount()
    same(os.stat(path).st_mtime_ns, 6, "after a remount")
    same(get(path), b"x" * 10000, "content")


def case_relatime(case):
    path = put(case.path("f"), b"x")
    os.utime(path, ns=(10**9, 2 * 10**9))  # atime before mtime: a read moves it
    check(get(path) == b"x", "content")
    first = os.stat(path).st_atime_ns
    check(abs(time.time_ns() - first) < 10**10, f"atime after the first read: {first}")
    time.sleep(0.02)
    check(get(path) == b"x", "content")
    same(os.stat(path).st_atime_ns, first, "atime after a second read within the day")


@massfs_only
def case_noatime(case):
    path = put(case.path("f"), b"x")
    os.utime(path, ns=(10**9, 2 * 10**9))
    case.remount("allow_other,noatime")
    check(get(path) == b"x", "content")
    same(os.stat(path).st_atime_ns, 10**9, "atime with noatime")
    case.remount()


def case_modes_and_umask(case):
    old = os.umask(0o027)
    try:
        put(case.path("f"), b"", 0o666)
        os.mkdir(case.path("d"), 0o777)
        os.mkfifo(case.path("p"), 0o666)
    finally:
        os.umask(old)
    same([os.stat(case.path(n)).st_mode & 0o7777 for n in "fdp"], [0o640, 0o750, 0o640], "modes")
    os.chmod(case.path("f"), 0o7777)
    same(os.stat(case.path("f")).st_mode & 0o7777, 0o7777, "mode")


def case_suid_is_cleared(case):
    path = put(case.path("f"), b"x" * 100)
    os.chown(path, 1000, 1000)

    def change():
        os.chmod(path, 0o6755)
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"y")
        mode = os.fstat(fd).st_mode & 0o7777
        os.close(fd)
        return mode
    same(as_user(1000, 1000, change), 0o755, "mode after a write by the owner")
    same(os.stat(path).st_mode & 0o7777, 0o755, "mode seen by root")
    os.chmod(path, 0o6755)
    as_user(1000, 1000, os.truncate, path, 5)
    same(os.stat(path).st_mode & 0o7777, 0o755, "mode after truncate")
    os.chmod(path, 0o6755)
    os.chown(path, 1001, 1001)
    same(os.stat(path).st_mode & 0o7777, 0o755, "mode after chown")
    os.chmod(path, 0o2644)
    same(os.stat(path).st_mode & 0o7777, 0o2644, "setgid without group execute")
    os.chown(path, 1000, 1000)
    same(os.stat(path).st_mode & 0o7777, 0o2644, "setgid without group execute stays at chown")
    os.chmod(path, 0o4755)
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"by root")
    os.close(fd)
    check(os.stat(path).st_mode & 0o777 == 0o755, "permission bits")
    case.remount()
    same(os.stat(path).st_uid, 1000, "owner after a remount")


def case_setgid_directory(case):
    os.mkdir(case.path("d"))
    os.chown(case.path("d"), 1000, 2000)
    os.chmod(case.path("d"), 0o2777)

    def make():
        put(case.path("d/f"))
        os.mkdir(case.path("d/e"))
        os.symlink("x", case.path("d/l"))
        return True
    as_user(1001, 1001, make)
    same([os.lstat(case.path("d", n)).st_gid for n in "fel"], [2000] * 3, "groups")
    check(os.stat(case.path("d/e")).st_mode & stat.S_ISGID, "a directory inherits the bit")
    check(not os.stat(case.path("d/f")).st_mode & stat.S_ISGID, "a file does not")


def case_permissions(case):
    put(case.path("secret"), b"x", 0o600)
    os.chmod(case.path("secret"), 0o600)
    raises(errno.EACCES, as_user, 1000, 1000, get, case.path("secret"))
    os.mkdir(case.path("closed"), 0o700)
    put(case.path("closed/f"))
    raises(errno.EACCES, as_user, 1000, 1000, os.stat, case.path("closed/f"))
    raises(errno.EACCES, as_user, 1000, 1000, put, case.path("new"))
    raises((errno.EPERM, errno.EACCES), as_user, 1000, 1000, os.chmod, case.path("secret"), 0o777)
    raises((errno.EPERM, errno.EACCES), as_user, 1000, 1000, os.chown, case.path("secret"), 1000, 1000)
    os.chown(case.path("secret"), 0, 3000)
    os.chmod(case.path("secret"), 0o640)
    same(as_user(1000, 1000, get, case.path("secret"), groups=(3000,)), b"x", "read by a further group")
    raises((errno.EPERM, errno.EACCES), as_user, 1000, 1000, os.utime, case.path("secret"), (1, 1))


def case_xattrs(case):
    path = put(case.path("f"), b"x")
    values = {"user.empty": b"", "user.text": b"value", "user.bytes": bytes(range(256)), "trusted.t": b"root only",
              "security.own": b"s", "user.64k": b"z" * 65536}
    if case.suite.plain:
        del values["user.64k"]  # more than ext4 takes
    for name, value in values.items():
        os.setxattr(path, name, value)
    os.mkdir(case.path("d"))
    os.setxattr(case.path("d"), "user.dir", b"tag")
    os.symlink("f", case.path("l"))
    os.setxattr(case.path("l"), "trusted.link", b"l", follow_symlinks=False)
    raises(errno.EPERM, os.setxattr, case.path("l"), "user.no", b"", follow_symlinks=False)

    def verify():
        same({n: os.getxattr(path, n) for n in os.listxattr(path) if n != "security.selinux"}, values, "xattrs")
        same(os.getxattr(case.path("d"), "user.dir"), b"tag", "xattr of a directory")
        same(os.getxattr(case.path("l"), "trusted.link", follow_symlinks=False), b"l", "xattr of a symbolic link")
    verify()
    case.remount()
    verify()
    put(path, b"rewritten")
    os.rename(path, case.path("g"))
    os.rename(case.path("g"), path)
    verify()
    os.removexattr(path, "user.bytes")
    raises(errno.ENODATA, os.getxattr, path, "user.bytes")
    raises(errno.ENODATA, os.removexattr, path, "user.bytes")
    raises(errno.EEXIST, os.setxattr, path, "user.text", b"", os.XATTR_CREATE)
    raises(errno.ENODATA, os.setxattr, path, "user.none", b"", os.XATTR_REPLACE)
    os.setxattr(path, "user.text", b"new", os.XATTR_REPLACE)
    same(os.getxattr(path, "user.text"), b"new", "replaced")


def case_xattr_limits(case):
    path = put(case.path("f"))
    raises(errno.E2BIG, os.setxattr, path, "user.big", b"x" * 65537)
    raises((errno.ERANGE, errno.ENAMETOOLONG), os.setxattr, path, "user." + "n" * 251, b"")
    os.setxattr(path, "user." + "n" * 250, b"the longest name")
    same(os.getxattr(path, "user." + "n" * 250), b"the longest name", "longest name")
    raises(errno.EOPNOTSUPP, os.setxattr, path, "nonsense", b"")
    raises((errno.EOPNOTSUPP, errno.EPERM), os.setxattr, path, "system.nonsense", b"")
    count = 0
    try:
        for number in range(40):  # 1 MiB an inode
            os.setxattr(path, f"user.fill{number}", b"f" * 65536)
            count += 1
    except OSError as error:
        check(error.errno in (errno.ENOSPC, errno.E2BIG, errno.EDQUOT), f"beyond the limit: {error}")
    if not case.suite.plain:
        check(10 <= count <= 17, f"{count} values of 64 KiB fit, want about 16")
    for number in range(count):
        same(len(os.getxattr(path, f"user.fill{number}")), 65536, "value")


def case_trusted_xattrs_are_root_s(case):
    path = put(case.path("f"))
    os.chmod(path, 0o666)
    os.setxattr(path, "trusted.secret", b"x")
    os.setxattr(path, "user.open", b"y")
    same(as_user(1000, 1000, os.listxattr, path), ["user.open"], "what a user sees")
    raises((errno.EPERM, errno.ENODATA), as_user, 1000, 1000, os.getxattr, path, "trusted.secret")
    raises(errno.EPERM, as_user, 1000, 1000, os.setxattr, path, "trusted.own", b"")
    os.chmod(path, 0o600)
    raises(errno.EACCES, as_user, 1000, 1000, os.setxattr, path, "user.open", b"")


def case_capability_goes_with_a_write(case):
    path = put(case.path("f"), b"x")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(path, "security.capability", capability)
    same(len(os.getxattr(path, "security.capability")), 20, "capability")
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"y")
    os.close(fd)
    check("security.capability" not in os.listxattr(path), "security.capability survives a write")


def case_acl(case):
    if mfs.shutil.which("setfacl") is None:
        raise Skip("setfacl is not installed (package acl)")
    path = put(case.path("f"), b"content", 0o600)
    os.chmod(path, 0o600)
    raises(errno.EACCES, as_user, 1000, 1000, get, path)
    run(["setfacl", "-m", "u:1000:r", path])
    same(as_user(1000, 1000, get, path), b"content", "read by an ACL")
    raises(errno.EACCES, as_user, 1000, 1000, put, path)
    raises(errno.EACCES, as_user, 1001, 1001, get, path)
    same(os.stat(path).st_mode & 0o777, 0o640, "the mask shows as the group's bits")
    os.chmod(path, 0o600)  # the mask goes: the named user is shut out
    raises(errno.EACCES, as_user, 1000, 1000, get, path)
    os.chmod(path, 0o640)
    same(as_user(1000, 1000, get, path), b"content", "read after the mask came back")
    run(["setfacl", "-m", "g:2000:rw", path])
    same(as_user(1001, 2000, get, path), b"content", "read by a group's ACL")
    case.remount()
    same(as_user(1000, 1000, get, path), b"content", "after a remount")
    raises(errno.EACCES, as_user, 1002, 1002, get, path)
    run(["setfacl", "-b", path])
    raises(errno.EACCES, as_user, 1000, 1000, get, path)
    check("system.posix_acl_access" not in os.listxattr(path), "ACL is still listed after setfacl -b")


def case_noxattr(case):
    """Without xattrs an ACL is not seen by the kernel: nobody may get more than it grants."""
    if mfs.shutil.which("setfacl") is None:
        raise Skip("setfacl is not installed (package acl)")
    path = put(case.path("f"), b"content", 0o644)
    os.setxattr(path, "user.tag", b"value")
    plain = put(case.path("plain"), b"content", 0o644)
    os.chmod(plain, 0o644)
    run(["setfacl", "-m", "u:1000:-,g:2000:r,o::r", path])
    raises(errno.EACCES, as_user, 1000, 1000, get, path)
    case.remount("allow_other,noxattr")
    raises(errno.EACCES, as_user, 1000, 1000, get, path)
    raises(errno.EACCES, as_user, 1001, 1001, get, path)
    same(as_user(1000, 1000, get, plain), b"content", "a file without an ACL")
    raises(errno.EOPNOTSUPP, os.getxattr, path, "user.tag")
    raises(errno.EOPNOTSUPP, os.setxattr, path, "user.tag", b"other")
    run(["ls", "-l", case.dir])
    case.remount()
    same(os.getxattr(path, "user.tag"), b"value", "the attribute after a mount with xattrs")
    raises(errno.EACCES, as_user, 1000, 1000, get, path)


def case_default_acl(case):
    if mfs.shutil.which("setfacl") is None:
        raise Skip("setfacl is not installed (package acl)")
    os.mkdir(case.path("d"))
    run(["setfacl", "-d", "-m", "u::rwx,g::rx,o::-,u:1000:rwx", case.path("d")])
    run(["setfacl", "-m", "u:1000:rwx", case.path("d")])
    old = os.umask(0o077)  # a default ACL takes the umask's place
    try:
        put(case.path("d/f"), b"x", 0o666)
        os.mkdir(case.path("d/e"))
    finally:
        os.umask(old)
    same(os.stat(case.path("d/f")).st_mode & 0o777, 0o660, "mode under a default ACL")
    as_user(1000, 1000, put, case.path("d/f"), b"by the named user")
    as_user(1000, 1000, put, case.path("d/e/g"), b"below")
    _, text = run(["getfacl", "-cpEn", case.path("d/e")])
    check("default:user:1000:rwx" in text, f"the default ACL is not inherited:\n{text}")
    raises(errno.EACCES, as_user, 1001, 1001, get, case.path("d/f"))
    case.remount()
    same(get(case.path("d/f")), b"by the named user", "content after a remount")
    _, after = run(["getfacl", "-cpEn", case.path("d/e")])
    same(after, text, "ACL after a remount")


def case_statfs_is_real(case):
    before = os.statvfs(case.dir)
    check(before.f_blocks > 0 and before.f_bavail > 0 and before.f_namemax == 255, f"statvfs: {before}")
    if case.suite.args.store != "localdir":
        same(before.f_blocks * before.f_frsize, 1 << 50, "the size of a volume in a bucket, without capacity=")
        put(case.path("f"), mfs.noise(1, 9 << 20))
        os.sync()
        mfs.wait_for(lambda: (before.f_bfree - os.statvfs(case.dir).f_bfree) * before.f_frsize >= 9 << 20, 20, "9 MiB less free")
        check(os.statvfs(case.dir).f_ffree < before.f_ffree, "a file more, and as many left")
        os.unlink(case.path("f"))
        mfs.wait_for(lambda: os.statvfs(case.dir).f_bfree >= before.f_bfree, 20, "as much free as before")
        return
    if not case.suite.plain:
        below = os.statvfs(case.volume.dir)
        total = below.f_blocks * below.f_frsize
        check(abs(before.f_blocks * before.f_frsize - total) <= total // 20, "size is not that of the disk below")
    used = 0
    for number in range(5):  # the disk is shared: other programs may free as much at the same moment, but not each time
        before = os.statvfs(case.dir)
        put(case.path(f"f{number}"), mfs.noise(number, 64 << 20))
        os.sync()
        after = os.statvfs(case.dir)
        used = (before.f_bfree - after.f_bfree) * before.f_frsize
        if used > 32 << 20:
            break
    check(used > 32 << 20, f"64 MiB written five times, {used} bytes less free")


def case_st_blocks(case):
    path = put(case.path("f"), b"x" * 100000)
    os.sync()
    blocks = os.stat(path).st_blocks * 512
    check(100000 <= blocks <= 200000 or case.suite.plain, f"st_blocks says {blocks} bytes")
    same(os.stat(put(case.path("empty"))).st_blocks, 0, "st_blocks of an empty file")


def case_owner_and_chown(case):
    path = put(case.path("f"))
    os.chown(path, 4000000000, 4000000001)
    same((os.stat(path).st_uid, os.stat(path).st_gid), (4000000000, 4000000001), "big numbers")
    os.chown(path, -1, 5)
    same((os.stat(path).st_uid, os.stat(path).st_gid), (4000000000, 5), "only the group")
    os.symlink("f", case.path("l"))
    os.lchown(case.path("l"), 7, 8)
    same((os.lstat(case.path("l")).st_uid, os.stat(path).st_uid), (7, 4000000000), "lchown")


def case_symlinks(case):
    for number, target in enumerate(("x", "/absolute/path", "a" * 1000, "ünï", "../..")):
        os.symlink(target, case.path(f"l{number}"))
        same(os.readlink(case.path(f"l{number}")), target, "target")
        same(os.lstat(case.path(f"l{number}")).st_size, len(target.encode()), "size of a link")
    raises((errno.ENOENT, errno.EINVAL), os.symlink, "", case.path("none"))
    os.symlink("loop", case.path("loop"))
    raises(errno.ELOOP, os.stat, case.path("loop"))
    case.remount()
    same(os.readlink(case.path("l3")), "ünï", "target after a remount")


if __name__ == "__main__":
    run_cases("posix_meta", __doc__, globals())
