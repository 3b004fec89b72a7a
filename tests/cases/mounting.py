#!/usr/bin/env python3
"""Mounting and unmounting: mount(8), its helpers, options, exit codes, sources, dead mounts, systemd's units."""
import errno
import os
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Skip, as_user, check, daemons, get, put, raises, run, run_free_cases, same, wait_for

USAGE, SYSTEM, FAILED = 1, 2, 32


def volume_and_mountpoint(suite, place, name="v"):
    volume, mnt = f"{place}/{name}", f"{place}/{name}-mnt"
    os.mkdir(mnt)
    suite.massfs("format", volume)
    return volume, mnt


def entry(mnt):
    """The mount's line of mountinfo as (type, source, options), or None."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, right = line.split(" - ")
            if left.split()[4] == os.path.realpath(mnt):
                kind, source, options = right.split()
                found = (kind, source, left.split()[5] + "," + options)
    return found


def helper(suite, *args, ok=(0,), **kwargs):
    return run([*suite.command("mount.massfs"), *args], ok=ok, **kwargs)[1]


def unmount(suite, mnt, *args):
    run(["umount", *args, mnt])
    same(entry(mnt), None, "mount left by umount")
    same(daemons(suite), [], "daemons left when umount returns")


def refused(suite, code, *args, says=()):
    """The helper ends with this code, says why, and mounts nothing."""
    rc, text = run([*suite.command("mount.massfs"), *args], ok=None, timeout=60)
    same(rc, code, f"exit code of mount.massfs {' '.join(args)} ({text.strip()})")
    for word in says:
        check(str(word).lower() in text.lower(), f"the message lacks '{word}': {text.strip()}")
    check(text.strip(), "no message")
    return text


def case_name_in_dev_shm_is_taken(suite, place):
    """libmongoc's counters need no file there: that of another process with this pid was a warning on stderr."""
    def taken():
        os.close(os.open(f"/dev/shm/mongoc-{os.getpid()}", os.O_WRONLY | os.O_CREAT, 0o600))

    def free():
        if os.path.exists(f"/dev/shm/mongoc-{os.getpid()}"):
            os.unlink(f"/dev/shm/mongoc-{os.getpid()}")

    for before in (taken, free):
        with subprocess.Popen([*suite.command(), "--help"], preexec_fn=before, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE) as child:
            same(child.stderr.read(), b"", "what massfs --help says on stderr")
        name = f"/dev/shm/mongoc-{child.pid}"
        same(os.path.exists(name), before is taken, f"{name} is there")
    # Nor while it lives.
    volume, mnt = volume_and_mountpoint(suite, place)
    suite.massfs("mount", volume, mnt)
    for pid in daemons(suite):
        with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            same([line for line in maps if "/dev/shm/" in line], [], "maps of the daemon")
    unmount(suite, mnt)


def case_first_acl(suite, place):
    """While no file has an ACL, the owner is told that there are none here (ls -l then asks once); others are not."""
    def asks(path):
        try:
            os.getxattr(path, "system.posix_acl_access")
        except OSError as err:
            return err.errno
        return 0
    volume, mnt = volume_and_mountpoint(suite, place)
    os.chmod(place, 0o755)
    helper(suite, volume, mnt, "-o", "allow_other")
    os.chmod(mnt, 0o755)
    path = put(f"{mnt}/f", b"content")
    os.chmod(path, 0o640)
    os.chown(path, 1000, 2000)
    mine = put(f"{mnt}/mine", b"x")
    same(asks(mine), errno.EOPNOTSUPP, "the owner asks")
    same(as_user(1001, 2000, get, path), b"content", "read by the group")
    raises(errno.EACCES, as_user, 1001, 1001, get, path)
    theirs = put(f"{mnt}/theirs", b"x")  # of which the kernel knows nothing yet
    os.chown(theirs, 1000, 1000)
    same(as_user(1000, 1000, asks, theirs), errno.EOPNOTSUPP, "another owner asks")
    same(asks(theirs), errno.ENODATA, "root asks of another's file: the kernel may be asking for a check")
    run(["cp", "-a", mine, f"{mnt}/copy"])
    if mfs.shutil.which("setfacl") is None:
        raise Skip("setfacl is not installed (package acl)")
    run(["getfacl", mine])
    run(["setfacl", "-m", "u:1001:r", path])
    same(as_user(1001, 1001, get, path), b"content", "read by the first ACL")
    same(asks(put(f"{mnt}/other", b"x")), errno.ENODATA, "the owner asks once there is an ACL")
    unmount(suite, mnt)
    helper(suite, volume, mnt, "-o", "allow_other")
    same(asks(f"{mnt}/other"), errno.ENODATA, "after a remount")
    same(as_user(1001, 1001, get, path), b"content", "after a remount")
    unmount(suite, mnt)


def case_mount_t_massfs(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    run(["mount", "-t", "massfs", volume, mnt])
    same(entry(mnt)[:2], ("fuse.massfs", volume), "mountinfo")
    put(f"{mnt}/f", b"content")
    unmount(suite, mnt)
    same(get(f"{volume}/objects/f"), b"content", "object")


def case_mount_t_fuse_massfs(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    run(["mount", "-t", "fuse.massfs", volume, mnt, "-o", "noatime"])
    check("noatime" in entry(mnt)[2], f"options {entry(mnt)}")
    put(f"{mnt}/f", b"x")
    unmount(suite, mnt)


def case_massfs_mount(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    suite.massfs("mount", volume, mnt, "-o", "allow_other")
    put(f"{mnt}/f", b"x")
    suite.massfs("umount", mnt)
    same(entry(mnt), None, "mount")
    same(daemons(suite), [], "daemons")


def case_fstab(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    line = f"{volume} {mnt} massfs defaults,noauto,nofail,_netdev,x-systemd.automount,allow_other 0 0\n"
    with open("/etc/fstab", "a", encoding="ascii") as file:  # an overlay of this namespace
        file.write(line)
    run(["mount", mnt])
    put(f"{mnt}/f", b"x")
    unmount(suite, mnt)
    run(["mount", volume])
    same(get(f"{mnt}/f"), b"x", "content")
    unmount(suite, mnt)


def case_fake(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt, "-f", "-o", "rw")
    helper(suite, "-f", volume, mnt)
    run(["mount", "-f", "-t", "massfs", volume, mnt])
    same(entry(mnt), None, "a fake mount")
    same(daemons(suite), [], "daemons")
    refused(suite, FAILED, "-f", f"{place}/nothing", mnt)


def case_sloppy_and_unknown_options(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    refused(suite, USAGE, volume, mnt, "-o", "rw,flux_capacitor=1.21", says=["flux_capacitor"])
    refused(suite, USAGE, volume, mnt, "-o", "allow_other,nonsense", says=["nonsense"])
    same(entry(mnt), None, "mount")
    rc, text = run(["mount", "-t", "massfs", volume, mnt, "-o", "nonsense"], ok=None)
    check(rc != 0 and "nonsense" in text, f"mount(8): {rc}, {text}")
    text = helper(suite, volume, mnt, "-s", "-o", "rw,flux_capacitor=1.21")
    check("flux_capacitor" in text, "with -s the unknown option is not even named")
    check(entry(mnt), "not mounted with -s")
    unmount(suite, mnt)


def case_bad_values(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    for option in ("umask=999", "uid=nobody-by-that-name", "entry_timeout=soon", "memory=lots", "memory=1"):
        refused(suite, USAGE, volume, mnt, "-o", option, says=[option.split("=")[0]])


def case_n_and_v(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    text = helper(suite, volume, mnt, "-n", "-v", "-o", "rw")
    check(text.strip(), "-v says nothing")
    unmount(suite, mnt, "-v")


def case_system_options(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    for options in ("_netdev,nofail,noauto,defaults", "rw,auto,exec,suid,dev,async,relatime", "user", "users", "owner",
                    "group", "nouser,comment=systemd.automount", "x-systemd.automount,x-systemd.idle-timeout=60",
                    "x-gvfs-show,X-mount.mkdir", "noexec,nosuid,nodev,noatime,nodiratime", "sync,dirsync",
                    "strictatime", "lazytime", "iversion", "silent", "seclabel", "helper=x,uhelper=y"):
        helper(suite, volume, mnt, "-o", f"rw,{options}")
        unmount(suite, mnt)


def case_fuse_options(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    options = ("allow_other,default_permissions,entry_timeout=2.5,attr_timeout=3,negative_timeout=1,max_read=131072,"
               "nonempty,big_writes,use_ino,intr,fsname=my-name,subtype=massfs")
    helper(suite, volume, mnt, "-o", options)
    same(entry(mnt)[:2], ("fuse.massfs", "my-name"), "mountinfo")
    check("allow_other" in entry(mnt)[2] and "default_permissions" in entry(mnt)[2], entry(mnt)[2])
    put(f"{mnt}/f", b"x")
    unmount(suite, mnt)
    helper(suite, volume, mnt, "-o", "allow_other,umask=027,uid=1234,gid=4321")
    st = os.stat(f"{mnt}/f")
    same((st.st_uid, st.st_gid, st.st_mode & 0o777), (1234, 4321, 0o750), "what uid=, gid= and umask= show")
    unmount(suite, mnt)


def case_read_only(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt, "-o", "rw")
    put(f"{mnt}/f", b"x")
    unmount(suite, mnt)
    run(["mount", "-t", "massfs", "-r", volume, mnt])
    same(get(f"{mnt}/f"), b"x", "content")
    check(os.statvfs(mnt).f_flag & os.ST_RDONLY, "statvfs says rw")
    for call, args in ((put, (f"{mnt}/new", b"")), (os.unlink, (f"{mnt}/f",)), (os.mkdir, (f"{mnt}/d",)),
                       (os.chmod, (f"{mnt}/f", 0o600)), (os.setxattr, (f"{mnt}/f", "user.a", b""))):
        raises(errno.EROFS, call, *args)
    unmount(suite, mnt)


def case_remount_read_only(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    run(["mount", "-t", "massfs", volume, mnt])
    put(f"{mnt}/f", b"x")
    run(["mount", "-o", "remount,ro", mnt])
    raises(errno.EROFS, put, f"{mnt}/g", b"")
    run(["mount", "-o", "remount,rw", mnt])
    put(f"{mnt}/g", b"y")
    unmount(suite, mnt)


def case_exit_codes(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    refused(suite, USAGE)
    refused(suite, USAGE, volume)
    refused(suite, USAGE, volume, mnt, "third")
    refused(suite, USAGE, "-Z", volume, mnt)
    refused(suite, FAILED, f"{place}/nowhere", mnt, says=[f"{place}/nowhere"])
    refused(suite, FAILED, volume, f"{place}/no-mountpoint", says=["no-mountpoint"])
    put(f"{place}/file")
    refused(suite, FAILED, volume, f"{place}/file", says=["not a directory"])
    os.mkdir(f"{place}/folder")
    refused(suite, FAILED, f"{place}/folder", mnt, says=["massfs format"])
    refused(suite, FAILED, "no-such-volume", mnt, says=["no-such-volume"])
    same(suite.massfs("no-such-verb", ok=None)[0], 2, "exit code of an unknown verb")
    same(suite.massfs(ok=None)[0], 2, "exit code of no verb")
    check("massfs" in suite.massfs("--version")[1], "--version")
    check("mount" in suite.massfs("--help")[1], "--help")


def case_no_home_and_no_path(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    for name in ("mount.massfs", "mount.fuse.massfs"):
        run(["env", "-i", *suite.command(name), volume, mnt, "-o", "rw"], cwd="/")
        put(f"{mnt}/f", b"x")
        run(["env", "-i", *suite.command("umount.fuse.massfs"), mnt], cwd="/")
        same(entry(mnt), None, "mount")
        same(daemons(suite), [], "daemons")


def case_closed_standard_streams(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    run(["bash", "-c", '"$@" <&- >&- 2>&-', "bash", *suite.command("mount.massfs"), volume, mnt])
    put(f"{mnt}/f", b"x")
    unmount(suite, mnt)


def case_second_daemon(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    os.mkdir(f"{place}/other")
    helper(suite, volume, mnt)
    [pid] = daemons(suite)
    refused(suite, FAILED, volume, f"{place}/other", says=[pid])
    refused(suite, FAILED, volume, mnt, says=["already mounted"])
    rc, text = suite.massfs("format", volume, ok=None)
    check(rc != 0, f"format of a mounted volume: {text}")
    put(f"{mnt}/f", b"still works")
    unmount(suite, mnt)
    helper(suite, volume, f"{place}/other")
    same(get(f"{place}/other/f"), b"still works", "content")
    unmount(suite, f"{place}/other")


def case_dead_mount(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    for number in range(3):
        helper(suite, volume, mnt)
        put(f"{mnt}/f{number}", b"before the kill")
        [pid] = daemons(suite)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: mfs.dead(mnt), what="the mount is dead")
        wait_for(lambda: not daemons(suite), what="the daemon is gone")
    run(["mount", "-t", "massfs", volume, mnt])
    same(get(f"{mnt}/f2"), b"before the kill", "content")
    same(sum(e == mnt for e in mount_points()), 1, "mounts there")
    [pid] = daemons(suite)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: mfs.dead(mnt), what="the mount is dead")
    run(["umount", mnt])  # a dead mount can be unmounted
    same(entry(mnt), None, "mount")


def mount_points():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line.split()[4] for line in file]


def case_names_and_subdirectories(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    put("/etc/massfs/drive.conf", f"# a comment\n[volume]\nsource = {volume}\n\n[mount]\nallow_other = yes\n".encode())
    run(["mount", "-t", "massfs", "drive", mnt])
    os.makedirs(f"{mnt}/a/b")
    put(f"{mnt}/a/b/f", b"below")
    check("allow_other" in entry(mnt)[2], "option of the .conf")
    unmount(suite, mnt)
    put(f"{place}/elsewhere.conf", get("/etc/massfs/drive.conf"))
    for source in (f"{place}/elsewhere.conf", "drive", volume, volume + "/"):
        helper(suite, source, mnt)
        same(get(f"{mnt}/a/b/f"), b"below", f"content by {source}")
        unmount(suite, mnt)
    for source in ("drive:/a/b", "drive:a/b", f"{volume}:/a/b", f"{place}/elsewhere.conf:/a/b/"):
        helper(suite, source, mnt)
        same(os.listdir(mnt), ["f"], f"listing by {source}")
        put(f"{mnt}/g", b"new")
        os.unlink(f"{mnt}/g")
        same(os.stat(f"{mnt}/..").st_ino, os.stat(place).st_ino, "above the mount")
        unmount(suite, mnt)
    refused(suite, FAILED, "drive:/a/none", mnt, says=["none"])
    refused(suite, FAILED, "drive:/a/b/f", mnt)
    rc, text = run([*suite.command("mount.massfs"), "drive:/../..", mnt], ok=None)
    check(rc != 0, f"a subdirectory outside of the volume: {text}")


def case_damaged_conf(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    path = "/etc/massfs/broken.conf"
    for text, words in (("[volume]\nthis is no setting\n", ["broken.conf", "2"]),
                        (f"[volume]\nsource = {volume}\nflavour = sweet\n", ["broken.conf", "flavour"]),
                        (f"[volume]\nsource = {volume}\n[mount]\nmemory = many\n", ["broken.conf", "memory"]),
                        ("[volume]\n", ["broken.conf", "source"]),
                        ("", ["broken.conf"]),
                        (f"[volumes]\nsource = {volume}\n", ["broken.conf"]),
                        ("\0\1\2\xff" * 100, ["broken.conf"])):
        put(path, text.encode("latin-1"))
        rc, said = run([*suite.command("mount.massfs"), "broken", mnt], ok=None)
        check(rc in (USAGE, FAILED), f"exit code {rc} for {text!r}")
        for word in words:
            check(word in said, f"the message for {text[:60]!r} lacks '{word}': {said}")
    os.unlink(path)


def case_umount_drains(suite, place):
    """What was written last is in objects/ the moment umount returns."""
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt)
    data = mfs.noise(1, 30 << 20)
    put(f"{mnt}/big", data)
    for number in range(200):
        put(f"{mnt}/f{number}", b"%d" % number)
        os.rename(f"{mnt}/f{number}", f"{mnt}/g{number}")
    unmount(suite, mnt)
    check(get(f"{volume}/objects/big") == data, "big object")
    for number in range(200):
        same(get(f"{volume}/objects/g{number}"), b"%d" % number, "object")
        check(not os.path.exists(f"{volume}/objects/f{number}"), "the old name is still shown")


def case_umount_busy(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt)
    fd = os.open(f"{mnt}/f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"1")
    rc, text = run(["umount", mnt], ok=None)
    same(rc, FAILED, "exit code of umount of a busy mount")
    check("busy" in text, text)
    os.write(fd, b"2")
    os.close(fd)
    same(get(f"{mnt}/f"), b"12", "content after the refused umount")
    fd = os.open(f"{mnt}/f", os.O_RDONLY)
    run(["umount", "-l", mnt])
    same(os.read(fd, 5), b"12", "a file open over a lazy umount")
    os.close(fd)
    wait_for(lambda: not daemons(suite), what="the end of the daemon after a lazy umount")


def case_fusermount(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt)
    put(f"{mnt}/f", b"x")
    run(["fusermount3", "-u", mnt])
    wait_for(lambda: not daemons(suite), 30, "the end of the daemon")
    helper(suite, volume, mnt)
    same(get(f"{mnt}/f"), b"x", "content")
    run(["umount", "-i", mnt])
    wait_for(lambda: not daemons(suite), 30, "the end of the daemon")
    same(get(f"{volume}/objects/f"), b"x", "object")


def case_signals_unmount(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        helper(suite, volume, mnt)
        put(f"{mnt}/f", b"x" * 100000)
        [pid] = daemons(suite)
        os.kill(pid, number)
        wait_for(lambda: not daemons(suite), 30, f"the end of the daemon by {number.name}")
        same(entry(mnt), None, "mount")
    check(get(f"{volume}/objects/f") == b"x" * 100000, "object")


def case_foreground(suite, place):
    volume = mfs.Volume(suite, "fg", f"{place}/fg").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount(path=f"{place}/m")
    put(f"{mount.path}/f", b"x")
    mount.process.send_signal(signal.SIGTERM)
    same(mount.process.wait(30), 0, "exit code after SIGTERM")
    same(entry(mount.path), None, "mount")
    suite.mounts.remove(mount)


def case_allow_other(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt)
    os.chmod(mnt, 0o755)
    put(f"{mnt}/f", b"x")
    raises(errno.EACCES, as_user, 1000, 1000, get, f"{mnt}/f")
    unmount(suite, mnt)
    helper(suite, volume, mnt, "-o", "allow_other")
    same(as_user(1000, 1000, get, f"{mnt}/f"), b"x", "content")
    raises(errno.EACCES, as_user, 1000, 1000, put, f"{mnt}/g", b"")
    unmount(suite, mnt)


def case_suid_and_dev(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt, "-o", "nosuid,nodev,noexec")
    check(all(o in entry(mnt)[2] for o in ("nosuid", "nodev", "noexec")), entry(mnt)[2])
    put(f"{mnt}/true", get("/bin/true"), 0o755)
    raises(errno.EACCES, subprocess.run, [f"{mnt}/true"], check=True)
    os.mknod(f"{mnt}/null", 0o20666, os.makedev(1, 3))
    raises(errno.EACCES, get, f"{mnt}/null")
    unmount(suite, mnt)
    helper(suite, volume, mnt, "-o", "suid,dev,exec")
    run([f"{mnt}/true"])
    same(get(f"{mnt}/null"), b"", "a device with -o dev")
    unmount(suite, mnt)


def case_mount_in_a_mount(suite, place):
    first, mnt = volume_and_mountpoint(suite, place, "first")
    helper(suite, first, mnt)
    os.mkdir(f"{mnt}/below")
    second = f"{place}/second"
    suite.massfs("format", second)
    helper(suite, second, f"{mnt}/below")
    put(f"{mnt}/below/f", b"x")
    same(len(daemons(suite)), 2, "daemons")
    run(["umount", f"{mnt}/below"])
    same(os.listdir(f"{mnt}/below"), [], "below the second mount")
    unmount(suite, mnt)


def case_bind_mount(suite, place):
    volume, mnt = volume_and_mountpoint(suite, place)
    helper(suite, volume, mnt)
    put(f"{mnt}/f", b"x")
    os.mkdir(f"{place}/bind")
    run(["mount", "--bind", mnt, f"{place}/bind"])
    run(["umount", mnt])
    same(get(f"{place}/bind/f"), b"x", "content through the bind mount")
    run(["umount", f"{place}/bind"])
    wait_for(lambda: not daemons(suite), 30, "the end of the daemon")


def case_mountpoint_with_odd_name(suite, place):
    volume = f"{place}/vol ume,with\ttab"
    mnt = f"{place}/a b\\c\nd"
    os.mkdir(mnt)
    suite.massfs("format", volume)
    helper(suite, volume, mnt)
    put(f"{mnt}/f", b"x")
    run(["umount", mnt])
    same(daemons(suite), [], "daemons")
    os.symlink(mnt, f"{place}/link")
    helper(suite, volume, f"{place}/link/")
    same(get(f"{mnt}/f"), b"x", "content by a symbolic link to the mount point")
    run(["umount", f"{place}/link"])
    same(daemons(suite), [], "daemons")


def case_format(suite, place):
    volume = f"{place}/v"
    suite.massfs("format", volume)
    same(stat.S_IMODE(os.stat(volume).st_mode), 0o700, "mode of the volume")
    rc, text = suite.massfs("format", volume, ok=None)
    check(rc != 0 and "already" in text, f"format over a volume: {rc}, {text}")
    suite.massfs("format", volume, "--if-needed")
    os.mkdir(f"{place}/full")
    put(f"{place}/full/precious", b"x")
    rc, text = suite.massfs("format", f"{place}/full", ok=None)
    check(rc != 0 and "empty" in text, f"format of a directory with files: {rc}, {text}")
    same(get(f"{place}/full/precious"), b"x", "content")
    rc, text = suite.massfs("format", f"{place}/full/precious", ok=None)
    check(rc != 0, f"format of a file: {text}")


def case_unprivileged_user(suite, place):
    """An ordinary user mounts an own volume through fusermount3."""
    path = mfs.shutil.which("fusermount3")
    if not path or not os.stat(path).st_mode & stat.S_ISUID:
        raise Skip("fusermount3 is not setuid here")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        raise Skip("/dev/fuse is not open to users here")
    os.chmod(place, 0o777)
    script = ('set -e; "$1" format "$2/own"; mkdir "$2/m"; "$3" "$2/own" "$2/m"; echo x >"$2/m/f"; cat "$2/m/f"; '
              'fusermount3 -u "$2/m"')
    prefix = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"]
    environment = {**os.environ, "HOME": place}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        environment[name] = environment[name].replace(f"log_path={suite.work}/", f"log_path={place}/")
    run([*prefix, "bash", "-c", script, "bash", f"{suite.bin}/massfs", place, f"{suite.bin}/mount.massfs"],
        env=environment)
    wait_for(lambda: not daemons(suite), 30, "the end of the daemon")
    same(get(f"{place}/own/objects/f"), b"x\n", "object")


def case_systemd_units(suite, place):
    folder = f"{mfs.ROOT}/systemd"
    units = [f"{folder}/{n}" for n in sorted(os.listdir(folder))
             if n.endswith((".mount", ".automount", ".service", ".socket", ".target", ".timer"))]
    if not units:
        raise Skip("systemd/ holds no unit")
    if mfs.shutil.which("systemd-analyze") is None:
        raise Skip("systemd-analyze is not installed")
    rc, text = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units], ok=None)
    ours = [l for l in text.splitlines() if any(os.path.basename(u) in l for u in units)]
    check(rc == 0 and not ours, f"systemd-analyze verify: {rc}\n{text}")


if __name__ == "__main__":
    run_free_cases("mounting", __doc__, globals())
