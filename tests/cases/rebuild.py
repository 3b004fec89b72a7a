#!/usr/bin/env python3
"""The index as a text and the index from the bucket: dump, load, rebuild.

A tree of every kind of file is compared, with all that stat, xattrs and the verbs show of it, after a round through dump
and load, and after its index was deleted and rebuilt: from a whole log, from one that is behind, from a damaged one, from none.
"""
import glob
import hashlib
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, get, noise, put, run, run_free_cases, same

ODD = [b"bad-\xff-utf8", b"new\nline", b"\"quotes\" \\ and 'more'", "umlaut-ä-字".encode(), b" space ", b"-dash", b"." * 3]


def fill(top):
    """Everything that a tree can hold."""
    top = os.fsencode(top)
    os.makedirs(top + b"/d/e/f")
    os.mkdir(top + b"/empty", 0o2711)
    put(top + b"/small", b"a small file\n")
    put(top + b"/d/medium", noise(1, 300_000))
    put(top + b"/d/big", noise(2, 7 << 20))
    put(top + b"/d/nothing")
    for number, name in enumerate(ODD):
        put(top + b"/d/e/" + name, noise(number, 100 + 20_000 * (number % 2)))
    os.link(top + b"/small", top + b"/d/hard1")
    os.link(top + b"/small", top + b"/d/e/hard2")
    os.link(top + b"/d/medium", top + b"/medium-too")
    os.symlink(b"../nowhere", top + b"/d/dangling")
    os.symlink(b"any \xff bytes", top + b"/link")
    os.mkfifo(top + b"/d/fifo", 0o640)
    os.mknod(top + b"/d/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top + b"/d/block", 0o600 | stat.S_IFBLK, os.makedev(7, 99))
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(top)
        server.bind("socket")
        os.chdir(here)
    os.setxattr(top + b"/small", "user.text", "täg \"x\"".encode())
    os.setxattr(top + b"/small", "user.bytes", b"\x00\xff\x01")
    os.setxattr(top + b"/small", "user.empty", b"")
    os.setxattr(top + b"/d/medium", "user.large", noise(3, 60_000))
    os.setxattr(top + b"/empty", "trusted.x", b"y")
    run(["setfacl", "-m", "u:12:r,g:34:rwx", "--", os.fsdecode(top) + "/small"])
    run(["setfacl", "-d", "-m", "u:12:rw", "--", os.fsdecode(top) + "/d/e"])
    os.chown(top + b"/d/big", 1234, 4321)
    os.chmod(top + b"/d/big", 0o4751)
    os.utime(top + b"/d/big", ns=(1_000_000_007, 999_999_999_123_456_789))
    os.utime(top + b"/link", ns=(-5, 7), follow_symlinks=False)
    os.truncate(top + b"/d/nothing", 5 << 20)  # a hole
    with open(top + b"/d/sparse", "wb") as file:
        file.write(noise(4, 50_000))
        file.seek(3 << 20)
        file.write(noise(5, 50_000))
    patch(top + b"/d/big", 1_000_000, noise(6, 5000))
    for generation in range(3):
        put(top + b"/versions", noise(10 + generation, 1000 + 30_000 * generation))
    put(top + b"/removed", b"it was removed")
    put(top + b"/d/removed-big", noise(7, 100_000))
    os.unlink(top + b"/removed")
    os.unlink(top + b"/d/removed-big")
    os.rename(top + b"/d/e/f", top + b"/moved")
    put(top + b"/moved/after", noise(8, 40_000))
    os.rename(top + b"/moved", top + b"/d/moved-twice")


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def seen(suite, top, times=True):
    """Every name with all that can be seen of it."""
    found = {}
    for where, folders, files in os.walk(os.fsencode(top)):
        for name in [*folders, *files, b"."] if where == os.fsencode(top) else [*folders, *files]:
            path = os.path.join(where, name)
            st = os.lstat(path)
            rel = os.path.relpath(path, os.fsencode(top))
            record = [oct(st.st_mode), st.st_ino, st.st_uid, st.st_gid, st.st_nlink, st.st_rdev, st.st_size]
            record += [st.st_mtime_ns, st.st_ctime_ns] if times else []
            if stat.S_ISLNK(st.st_mode):
                record.append(os.readlink(path))
            record.append(sorted((n, os.getxattr(path, n, follow_symlinks=False))
                                 for n in os.listxattr(path, follow_symlinks=False)))
            if stat.S_ISREG(st.st_mode):
                record.append(hashlib.sha256(get(path)).hexdigest())
            found[rel] = record
    return found


def same_tree(got, want, what):
    for name in sorted(set(got) | set(want)):
        if got.get(name) != want.get(name):
            raise mfs.Failure(f"{what}: {name!r} is {got.get(name)}, was {want.get(name)}")


def past(suite, top):
    """Versions, and what can be undeleted."""
    return (suite.massfs("versions", "--json", f"{top}/versions")[1],
            re.sub(r"\d+ (s|min) ago", "", suite.massfs("undelete", "--list", "--json", top)[1]))


def volume_at(suite, place):
    return mfs.Volume(suite, os.path.basename(place), f"{place}/v").format(), f"{place}/m"


def filled(suite, place, opts="", settle=False):
    """A mounted volume with the tree, and what is to be seen."""
    volume, mnt = volume_at(suite, place)
    mount = volume.mount(f"allow_other,suid,dev,index-log=1s{opts}", path=mnt)
    fill(mnt)
    if settle:
        volume.settle(mount)
    return volume, mount, seen(suite, mnt)


def lose_index(volume):
    for path in glob.glob(f"{volume.dir}/.massfs/index.db*"):
        os.unlink(path)


def log_objects(volume):
    return sorted(glob.glob(f"{volume.dir}/objects/.massfs/index/*/*"))


def rebuild(volume, *args, ok=(0,)):
    return volume.suite.massfs_json("rebuild", *args, volume.dir, ok=ok)


def version_of(path):
    """The file in v/ that a view is a link to: damage must hit what is read."""
    ino = os.stat(path).st_ino
    root = path[:path.index("/objects/")]
    for found in glob.glob(f"{root}/.massfs/v/*/*"):
        if os.stat(found).st_ino == ino:
            return found
    raise mfs.Failure(f"{path} is no version's view")


def case_dump_and_load(suite, place):
    """The dump of what was loaded is the dump, byte by byte; online and offline."""
    volume, mount, want = filled(suite, place)
    before = past(suite, mount.path)
    suite.massfs("dump", mount.path, f"{place}/online.zst")
    mount.umount()
    suite.massfs("dump", volume.dir, f"{place}/one.zst")
    suite.massfs("dump", "--level", "0", volume.dir, f"{place}/plain")
    check(run(["zstd", "-dc", f"{place}/one.zst"], ok=(0,))[0] == 0, "zstd reads it")
    with subprocess.Popen(["zstd", "-dc", f"{place}/one.zst"], stdout=subprocess.PIPE) as unpack:
        same(hashlib.sha256(unpack.stdout.read()).hexdigest(), hashlib.sha256(get(f"{place}/plain")).hexdigest(), "text")

    refused = suite.massfs("load", volume.dir, f"{place}/one.zst", ok=(1,))
    check("--replace" in refused[1] + str(refused), f"a used volume is not overwritten: {refused}")
    suite.massfs("load", "--replace", volume.dir, f"{place}/one.zst")
    suite.massfs("dump", volume.dir, f"{place}/two.zst")
    check(get(f"{place}/one.zst") == get(f"{place}/two.zst"), "the dump of the loaded index is another")
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same_tree(seen(suite, mount.path), want, "after load")
    same(past(suite, mount.path), before, "versions and removed files")
    mount.umount()
    volume.fsck()

    # The online dump: of one moment, with the session that was live.
    suite.massfs("load", "--replace", volume.dir, f"{place}/online.zst")
    suite.massfs("dump", volume.dir, f"{place}/again.zst")
    check(get(f"{place}/online.zst") == get(f"{place}/again.zst"), "the dump of the loaded online dump is another")


def case_load_refuses(suite, place):
    """Damaged and malformed dumps change nothing."""
    volume, mount, want = filled(suite, place)
    mount.umount()
    suite.massfs("dump", "--level", "0", volume.dir, f"{place}/good")
    index = get(f"{volume.dir}/.massfs/index.db")
    lines = get(f"{place}/good").splitlines(keepends=True)
    bad = {
        "cut": b"".join(lines[:-1]),
        "half a line": b"".join(lines)[:-40],
        "line missing": b"".join(lines[:5] + lines[6:]),
        "changed": b"".join(lines).replace(b'"uid":1234', b'"uid":1235'),
        "twice": b"".join(lines[:-1] + lines[4:5] + [b'{"r":"end","records":%d}\n' % len(lines)]),
        "no root": b"".join([l for l in lines[:-1] if b'"_id":1,' not in l] + [b'{"r":"end","records":%d}\n' % (len(lines) - 2)]),
        "wrong type": b"".join(lines).replace(b'"uid":1234', b'"uid":"a"'),
        "nothing": b"",
        "zeros": bytes(5000),
    }
    for name, text in bad.items():
        put(f"{place}/bad", text)
        rc, out = suite.massfs("load", "--replace", volume.dir, f"{place}/bad", ok=(1,))[:2]
        check("as it was" in out, f"{name}: {out}")
        check(get(f"{volume.dir}/.massfs/index.db") == index, f"{name}: the index was changed")
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same_tree(seen(suite, mount.path), want, "after the failed loads")
    suite.massfs("load", "--replace", volume.dir, f"{place}/good", ok=(1,))  # mounted
    mount.umount()


def case_rebuild_after_unmount(suite, place):
    """A clean unmount: the log is complete, and all is as it was."""
    volume, mount, want = filled(suite, place)
    before = past(suite, mount.path)
    mount.umount()
    rc, out = suite.massfs("rebuild", volume.dir, ok=(1,))[:2]
    check("--force" in out, f"a readable index is not replaced: {out}")
    lose_index(volume)
    result = rebuild(volume)
    check(result["log"] and result["clean"] and not result["damaged"], f"log: {result}")
    same([result[k] for k in ("added", "replaced", "moved", "lost_files", "lost_past", "lost_changes", "blocked")], [0] * 7,
         "nothing is younger")
    volume.fsck()
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same_tree(seen(suite, mount.path), want, "after rebuild")
    same(past(suite, mount.path), before, "versions and removed files")
    suite.massfs("undelete", f"{mount.path}/removed")
    same(get(f"{mount.path}/removed"), b"it was removed", "undeleted")
    suite.massfs("undelete", f"{mount.path}/d/removed-big")
    same(get(f"{mount.path}/d/removed-big"), noise(7, 100_000), "undeleted")
    put(f"{mount.path}/new", b"it goes on")
    volume.settle(mount)
    mount.umount()
    volume.fsck()
    # And once more, from the log that the mount after the rebuild has begun.
    lose_index(volume)
    check(rebuild(volume)["clean"], "the new log is complete")
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same(get(f"{mount.path}/new"), b"it goes on", "content")
    mount.umount()
    volume.fsck()


def case_rebuild_after_kill(suite, place):
    """A log that is behind: the tree as it was logged, and younger files by their objects."""
    volume, mount, want = filled(suite, place)
    suite.massfs("settle", "--wait", mount.path)
    want = seen(suite, mount.path, times=False)
    mount.umount()
    mount = volume.mount("allow_other,suid,dev,index-log=1h", path=mount.path)
    time.sleep(1)  # the first look at the log is over
    put(f"{mount.path}/younger", noise(20, 100_000))
    os.makedirs(f"{mount.path}/deep/er")
    put(f"{mount.path}/deep/er/file", noise(21, 200_000))
    put(f"{mount.path}/d/medium", noise(22, 400_000))
    os.rename(f"{mount.path}/d/sparse", f"{mount.path}/sparse-moved")
    os.setxattr(f"{mount.path}/small", "user.lost", b"after the log's end")
    os.unlink(f"{mount.path}/versions")
    suite.massfs("settle", "--wait", mount.path)
    mount.kill()
    run(["umount", "-l", mount.path])
    lose_index(volume)
    result = rebuild(volume)
    check(result["log"] and not result["damaged"], f"log: {result}")
    check(result["added"] >= 2 and result["replaced"] >= 1, f"younger files: {result}")
    volume.fsck()
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same(get(f"{mount.path}/younger"), noise(20, 100_000), "a new file")
    same(get(f"{mount.path}/deep/er/file"), noise(21, 200_000), "a new file in new folders")
    same(get(f"{mount.path}/d/medium"), noise(22, 400_000), "newer content")
    same(get(f"{mount.path}/medium-too"), noise(22, 400_000), "its other name")
    check(len(suite.massfs("versions", "--json", f"{mount.path}/d/medium")[1].splitlines()) >= 1, "the old content is a version")
    got = seen(suite, mount.path, times=False)
    changed = {b".", b"younger", b"deep", b"deep/er", b"deep/er/file", b"d/medium", b"medium-too", b"d", b"d/sparse",
               b"sparse-moved"}
    same_tree({k: v for k, v in got.items() if k not in changed}, {k: v for k, v in want.items() if k not in changed},
              "what was not touched")
    mount.umount()
    volume.fsck()


def case_rebuild_after_kill_log_current(suite, place):
    """kill -9 a moment after the log was written: no more than that moment is missing."""
    volume, mount, want = filled(suite, place)
    before = past(suite, mount.path)
    volume.settle(mount)
    want = seen(suite, mount.path)
    time.sleep(3)
    mount.kill()
    run(["umount", "-l", mount.path])
    lose_index(volume)
    result = rebuild(volume)
    check(result["log"] and not result["clean"], f"log: {result}")
    volume.fsck()
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same_tree(seen(suite, mount.path), want, "after rebuild")
    same(past(suite, mount.path), before, "versions and removed files")
    mount.umount()


def case_rebuild_without_log(suite, place):
    """Native objects alone: regular files with their bytes, at their paths."""
    volume, mount, _ = filled(suite, place, settle=True)
    want = {name: get(os.path.join(os.fsencode(mount.path), name))
            for name in (b"small", b"d/medium", b"d/big", b"d/sparse", b"d/moved-twice/after", b"versions")}
    mount.umount()
    lose_index(volume)
    shutil.rmtree(f"{volume.dir}/objects/.massfs/index")
    result = rebuild(volume)
    check(not result["log"] and result["added"] >= len(want), f"{result}")
    volume.fsck()
    mount = volume.mount("allow_other", path=mount.path)
    for name, data in want.items():
        check(get(os.path.join(os.fsencode(mount.path), name)) == data, f"content of {name}")
    st = os.stat(f"{mount.path}/d/big")
    same((st.st_uid, st.st_gid, st.st_mode & 0o555, st.st_mtime_ns // 10**9), (1234, 4321, 0o551, st.st_mtime_ns // 10**9),
         "owner and mode of the object")
    mount.umount()
    volume.fsck()


def case_damaged_log(suite, place):
    """Objects of the log that are cut, changed or missing: what is whole before them is used, and it is said."""
    volume, mount, _ = filled(suite, place)
    for number in range(4):
        put(f"{mount.path}/step{number}", noise(30 + number, 100))
        time.sleep(1.6)
    mount.umount()
    objects = log_objects(volume)
    changes = [o for o in objects if "changes" in o]
    check(len(changes) >= 4, f"several changes: {objects}")
    suite.massfs("dump", "--level", "0", volume.dir, f"{place}/whole")
    saved = f"{place}/saved"
    run(["cp", "-a", volume.dir, saved])

    def fresh():
        shutil.rmtree(volume.dir)
        run(["cp", "-a", saved, volume.dir])
        lose_index(volume)
        return volume

    def files(result):
        return result["files"]

    whole = files(rebuild(fresh()))
    for name, harm in (("cut", lambda p: os.truncate(p, os.path.getsize(p) // 2)),
                       ("emptied", lambda p: os.truncate(p, 0)),
                       ("changed", lambda p: patch(p, os.path.getsize(p) // 2, b"\xaa\x55")),
                       ("missing", os.unlink)):
        fresh()
        target = changes[-2]
        if name == "missing":
            os.unlink(version_of(target))
        else:
            run(["chmod", "u+w", version_of(target)])
        harm(target)
        result = rebuild(volume)
        check(result["log"] and result["damaged"] >= 1 and not result["clean"], f"{name}: {result}")
        check(files(result) <= whole, f"{name}: an older state: {result}")
        check(result["changes"] < int(changes[-1][-8:]), f"{name}: {result}")
        volume.fsck()
    # Without its snapshot an epoch says nothing; native objects are left.
    fresh()
    for snapshot in [o for o in log_objects(volume) if "snapshot" in o]:
        os.truncate(snapshot, 10)
    result = rebuild(volume)
    check(not result["log"] and result["damaged"] >= 1, f"no snapshot: {result}")
    volume.fsck()


def case_epochs(suite, place):
    """After kill -9 a new epoch begins with a snapshot; the old one goes."""
    volume, mount, _ = filled(suite, place)
    time.sleep(2)
    mount.kill()
    run(["umount", "-l", mount.path])
    old = {o.split("/")[-2] for o in log_objects(volume)}
    mount = volume.mount("allow_other,suid,dev,index-log=1s", path=mount.path)
    want = seen(suite, mount.path)
    mfs.wait_for(lambda: {o.split("/")[-2] for o in log_objects(volume)}.isdisjoint(old), 30, "the old epoch to go")
    status = suite.massfs_json("status", "--json", mount.path)
    check(status["index_log"]["complete"], f"status: {status}")
    put(f"{mount.path}/more", b"x")
    mfs.wait_for(lambda: suite.massfs_json("status", "--json", mount.path)["index_log"]["behind"] == 0, 10, "no change behind")
    os.unlink(f"{mount.path}/more")
    mount.umount()
    suite.massfs("fsck", "--repair", volume.dir)  # a tool's session is in the log too
    lose_index(volume)
    result = rebuild(volume)
    check(result["clean"], f"{result}")
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    got = seen(suite, mount.path)
    same_tree({k: v for k, v in got.items() if k != b"."}, {k: v for k, v in want.items() if k != b"."}, "after rebuild")
    mount.umount()


def has_crash_points(suite):
    with open(suite.command()[0], "rb") as file:
        return b"log.snapshot_stored" in file.read()


def case_crash_points(suite, place):
    """Killed between a part of the log and what follows it: the index goes on, and a rebuild has a state that fits."""
    if not has_crash_points(suite):
        raise mfs.Skip("this build has no crash points")
    for number, point in enumerate(("log.stored:1", "log.stored:2", "log.stored:4", "log.snapshot_stored:1", "log.snapshot_stored:2")):
        here = f"{place}/{number}"
        os.mkdir(here)
        volume, mnt = volume_at(suite, here)
        if point == "log.snapshot_stored:2":  # the second is that of a later epoch
            volume.mount("allow_other,index-log=1s", path=mnt).kill()
            run(["umount", "-l", mnt])
            point = "log.snapshot_stored:1"
        mount = None
        try:
            mount = volume.mount("allow_other,index-log=1s", path=mnt, env={**suite.env, "MASSFS_CRASH_AT": point})
            for step in range(60):
                put(f"{mnt}/f{step}", noise(step, 20_000))
                os.rename(f"{mnt}/f{step}", f"{mnt}/f{step % 7}")
                time.sleep(0.1)
            raise mfs.Failure(f"{point}: not reached")
        except (OSError, mfs.MountError):
            pass  # it may die before the mount answers
        if mount:
            mount.kill()
        run(["umount", "-l", mnt], ok=None)
        run(["cp", "-a", volume.dir, f"{here}/lost"])
        lost = mfs.Volume(suite, f"lost{number}", f"{here}/lost")
        lose_index(lost)
        rebuild(lost)
        lost.fsck()
        mount = volume.mount("allow_other,index-log=1s", path=mnt)
        names = {name: get(f"{mnt}/{name}") for name in os.listdir(mnt)}
        mount.umount()
        volume.fsck()
        lose_index(volume)
        check(rebuild(volume)["clean"], f"{point}: the log goes on")
        mount = volume.mount("allow_other", path=mnt)
        same({name: get(f"{mnt}/{name}") for name in os.listdir(mnt)}, names, f"{point}: after rebuild")
        mount.umount()


def case_foreign(suite, place):
    """Files that others put among the objects: named, and taken when asked for."""
    volume, mount, _ = filled(suite, place, settle=True)
    mount.umount()
    put(f"{volume.dir}/objects/foreign", b"not ours")
    os.makedirs(f"{volume.dir}/objects/far/away")
    put(f"{volume.dir}/objects/far/away/file", b"not ours either")
    lose_index(volume)
    result = rebuild(volume)
    same((result["foreign"], result["imported"]), (2, 0), "foreign files")
    lose_index(volume)
    result = rebuild(volume, "--import-foreign")
    mount = volume.mount("allow_other", path=mount.path)
    check(get(f"{mount.path}/foreign") == b"not ours" and get(f"{mount.path}/far/away/file") == b"not ours either",
          "content of what was taken")
    mount.umount()
    volume.fsck()


def case_gc_leaves_the_log(suite, place):
    volume, mount, want = filled(suite, place)
    mount.umount()
    kept = log_objects(volume)
    suite.massfs("gc", "--delete", volume.dir)
    check(set(kept) <= set(log_objects(volume)), "gc deleted the log")
    lose_index(volume)
    check(rebuild(volume)["clean"], "a whole log")
    mount = volume.mount("allow_other,suid,dev", path=mount.path)
    same_tree(seen(suite, mount.path), want, "after gc and rebuild")
    mount.umount()


if __name__ == "__main__":
    run_free_cases("rebuild", __doc__, globals())
