#!/usr/bin/env python3
"""The verbs of massfs on a mounted and an unmounted volume, and objects/ as people see it."""
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, get, noise, put, raises, run_cases, same, wait_for


def version_names(entries):
    """Names of what was replaced or removed, in the form that stays unique: time, data counter, inode."""
    return [f"{e['version'].split('-')[0]}-{e['data']}.{e['ino']}" for e in entries if not e["current"]]


def versions(case, path):
    """The identifiers of the versions, newest first, without the current content."""
    return version_names(case.suite.massfs_json("versions", path))


def restore(case, path, version):
    return case.suite.massfs("restore", f"{path}@{version}")


def as_nobody(case, *args):
    """A verb run by an ordinary user; its exit code and text."""
    done = subprocess.run(["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups",
                           *case.suite.command(), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, check=False,
                          env={k: v for k, v in os.environ.items() if not k.endswith("_OPTIONS")})
    return done.returncode, done.stdout.decode("utf-8", "replace")


def case_versions_newest_first(case):
    path = case.path("f")
    for number in range(4):
        put(path, b"content %d" % number)
    found = versions(case, path)
    same(len(found), 3, "versions after 4 writes")
    same(get(path), b"content 3", "current content")
    old = found[-1]
    restore(case, path, old)
    same(get(path), b"content 0", "the oldest version restored")
    check(len(versions(case, path)) > len(found), "what the restore replaced is no version")
    case.remount()
    same(get(path), b"content 0", "after a remount")
    contents = set()
    for version in versions(case, path):
        restore(case, path, version)
        contents.add(get(path))
    same(contents, {b"content %d" % n for n in range(4)}, "contents of all versions")


def case_versions_follow_names(case):
    """Editors and rsync replace by rename: what was at the path is a version of the path."""
    path = case.path("report")
    put(path, b"first")
    for text in (b"second", b"third"):
        put(case.path(".report.AbCdEf"), text)
        os.rename(case.path(".report.AbCdEf"), path)
    contents = set()
    for version in versions(case, path):
        restore(case, path, version)
        contents.add(get(path))
    check({b"first", b"second"} <= contents, f"contents of the versions: {contents}")


def case_a_version_is_a_close(case):
    path = case.path("f")
    put(path, b"old")
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    for number in range(5):
        os.write(fd, b"%d" % number)
        os.fsync(fd)
    os.close(fd)
    found = versions(case, path)
    contents = []
    for version in found:
        restore(case, path, version)
        contents.append(get(path))
    check(b"old" in contents, f"the content before is lost: {contents}")


def case_versions_of_a_deleted_file(case):
    path = case.path("f")
    put(path, b"one")
    put(path, b"two")
    os.unlink(path)
    found = versions(case, path)
    check(len(found) >= 1, "no versions of a deleted file's path")
    restore(case, path, found[-1])
    same(get(path), b"one", "restored at a path without a file")


def case_undelete(case):
    path = put(case.path("f"), b"precious", 0o640)
    os.chmod(path, 0o640)
    os.chown(path, 1000, 1001)
    os.setxattr(path, "user.tag", b"value")
    os.utime(path, ns=(10**9, 2 * 10**9))
    ino = os.stat(path).st_ino
    os.unlink(path)
    case.suite.massfs("undelete", path)
    st = os.stat(path)
    same(get(path), b"precious", "content")
    same((st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime_ns), (0o640, 1000, 1001, 2 * 10**9), "attributes")
    same(os.getxattr(path, "user.tag"), b"value", "xattr")
    same(st.st_ino, ino, "inode")
    rc, text = case.suite.massfs("undelete", path, ok=None)
    check(rc != 0 and text.strip(), f"undelete over a file that is there: {rc}, {text}")
    os.unlink(path)
    case.remount()
    case.suite.massfs("undelete", path)
    same(get(path), b"precious", "undeleted after a remount")
    rc, text = case.suite.massfs("undelete", case.path("never-was"), ok=None)
    check(rc != 0 and "never-was" in text, f"undelete of nothing: {rc}, {text}")


def case_undelete_takes_the_last(case):
    path = case.path("f")
    for number in range(3):
        put(path, b"%d" % number)
        os.unlink(path)
    case.suite.massfs("undelete", path)
    same(get(path), b"2", "content")


def case_undelete_in_a_listing(case):
    """The kernel must learn of the name at once, though it had cached that there is none."""
    path = put(case.path("f"), b"x")
    os.unlink(path)
    check(not os.path.exists(path), "still there")
    same(os.listdir(case.dir), [], "listing")
    case.suite.massfs("undelete", path)
    check(os.path.exists(path), "not there")
    same(os.listdir(case.dir), ["f"], "listing")


def case_restore_is_seen_at_once(case):
    path = case.path("f")
    put(path, b"a" * 5000)
    put(path, b"b" * 7000)
    reader = os.open(path, os.O_RDONLY)
    same(os.pread(reader, 1, 0), b"b", "content")
    restore(case, path, versions(case, path)[-1])
    same(os.stat(path).st_size, 5000, "size")
    check(get(path) == b"a" * 5000, "content")
    wait_for(lambda: os.pread(reader, 1, 0) == b"a", 15, "an open descriptor sees the restored content")
    os.close(reader)


def case_rights_of_verbs(case):
    path = put(case.path("secret"), b"one", 0o600)
    put(path, b"two")
    os.chmod(path, 0o600)
    version = versions(case, path)[-1]
    rc, text = as_nobody(case, "restore", f"{path}@{version}")
    check(rc != 0, f"restore by a stranger: {text}")
    os.mkdir(case.path("closed"), 0o700)
    put(case.path("closed/f"), b"x")
    for verb in ("versions", "info"):
        rc, text = as_nobody(case, verb, case.path("closed/f"))
        check(rc != 0, f"{verb} by a stranger in a closed directory: {text}")
    same(get(path), b"two", "content")
    os.unlink(path)
    rc, text = as_nobody(case, "undelete", path)
    check(rc != 0, f"undelete by a stranger: {text}")
    check(not os.path.exists(path), "undeleted by a stranger")
    os.mkdir(case.path("mine"))
    os.chown(case.path("mine"), 1000, 1000)
    mfs.as_user(1000, 1000, lambda: put(case.path("mine/f"), b"x") and os.unlink(case.path("mine/f")))
    rc, text = as_nobody(case, "undelete", case.path("mine/f"))
    same((rc, os.path.exists(case.path("mine/f"))), (0, True), f"undelete by the owner: {text}")
    for args in (("gc", "--delete"), ("settle", "--wait"), ("fsck",)):
        rc, text = as_nobody(case, *args, case.mount.path)
        if args[0] == "gc":
            check(rc != 0, f"{args} by a stranger: {text}")


def case_info(case):
    path = put(case.path("f"), b"x" * 1000)
    case.volume.settle(case.mount)
    _, text = case.suite.massfs("info", path)
    check("settled" in text, f"info does not say settled: {text}")
    report = case.suite.massfs_json("info", path)
    same(report.get("size"), 1000, "size of info --json")
    same(report.get("state"), "settled", "state of info --json")
    check(report.get("key", "").endswith("info/f"), f"key of info --json: {report}")
    rc, text = case.suite.massfs("info", case.path("none"), ok=None)
    check(rc != 0 and "none" in text, f"info of nothing: {rc}, {text}")
    case.suite.massfs("info", case.dir)
    os.symlink("f", case.path("l"))
    case.suite.massfs("info", case.path("l"))


def case_status(case):
    put(case.path("f"), b"x")
    _, text = case.suite.massfs("status", case.mount.path)
    check(text.strip(), "status says nothing")
    report = case.suite.massfs_json("status", case.mount.path)
    check(isinstance(report, dict) and report, f"status --json: {report}")
    _, text = case.suite.massfs("status", cwd=case.dir)
    check(text.strip(), "status in the mount, without an argument")


def case_settle(case):
    for number in range(200):
        put(case.path(f"f{number}"), b"%d" % number)
        os.rename(case.path(f"f{number}"), case.path(f"g{number}"))
    case.suite.massfs("settle", "--wait", case.mount.path)
    base = case.volume.object(case.rel(case.dir))
    same(sorted(os.listdir(base)), sorted(os.fsencode(f"g{n}") for n in range(200)), "objects after settle")
    case.suite.massfs("settle", "--wait", case.path("g1"))
    same(case.suite.massfs_json("info", case.path("g1")).get("state"), "settled", "state")


def case_view_follows(case):
    """objects/ shows what the index says, soon after each change."""
    def shown(name):
        return case.volume.object(case.rel(case.path(name)))
    put(case.path("a"), b"1")
    wait_for(lambda: os.path.exists(shown("a")), 10, "a new small file is shown")
    same(get(shown("a")), b"1", "content of a new file")
    os.rename(case.path("a"), case.path("b"))
    wait_for(lambda: os.path.exists(shown("b")) and not os.path.exists(shown("a")), 20, "a renamed file is shown")
    same(get(shown("b")), b"1", "its content")
    os.unlink(case.path("b"))
    wait_for(lambda: not os.path.exists(shown("b")), 20, "an unlinked file is not shown")
    os.makedirs(case.path("d/e"))
    for number in range(20):
        put(case.path(f"d/e/f{number}"), b"%d" % number)
    os.rename(case.path("d"), case.path("moved"))
    wait_for(lambda: all(os.path.exists(shown(f"moved/e/f{n}")) for n in range(20)), 10, "a moved tree is shown")
    wait_for(lambda: not os.path.exists(shown("d/e/f1")), 10, "the old place of the tree is empty")
    put(case.path("d"), b"a file where a folder was")
    wait_for(lambda: os.path.isfile(shown("d")), 10, "a file where a folder was is shown")
    os.unlink(case.path("d"))
    os.mkdir(case.path("d"))
    put(case.path("d/x"), b"a folder where a file was")
    wait_for(lambda: os.path.isfile(shown("d/x")), 10, "a folder where a file was is shown")
    mfs.renameat2(case.path("d/x"), case.path("moved/e/f1"), mfs.RENAME_EXCHANGE)
    wait_for(lambda: get(shown("d/x")) == b"1", 10, "exchanged files are shown")


def case_view_is_there_at_close(case):
    """Without inline files, and for all that are bigger, the object is there when close returns."""
    put(case.path("big"), noise(1, 100000))
    check(get(case.volume.object(case.rel(case.path("big")))) == noise(1, 100000), "object of a big file at its close")
    case.remount(case.runner.opts + ",inline=0")
    try:
        put(case.path("small"), b"1")
        same(get(case.volume.object(case.rel(case.path("small")))), b"1", "object of a small file at its close")
    finally:
        case.remount()


def state(case, name):
    return case.suite.massfs_json("info", case.path(name))["state"]


def case_states(case):
    """Each state of content, from info, and the object that comes of it."""
    def shown(name):
        return case.volume.object(case.rel(case.path(name)))
    big = bytearray(noise(2, 3 << 20))
    put(case.path("inline"), b"small")
    put(case.path(".tmp.AbCdEf"), b"temporary")
    put(case.path("patched"), big)
    same(state(case, "inline"), "inline", "a small file")
    check(not os.path.exists(shown("inline")), "an inline file is shown at once")
    same(state(case, "patched"), "settled", "a big file")
    case.suite.massfs("settle", "--wait", case.path("patched"))
    with open(case.path("patched"), "r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")
    big[1 << 20:(1 << 20) + 7] = b"changed"
    same(state(case, "patched"), "patched", "a big file that was changed")
    check(get(shown("patched")) != big, "its object changed")
    put(case.path("holes"), b"x" * 10000)
    os.truncate(case.path("holes"), 1 << 30)
    wait_for(lambda: state(case, "inline") == "settled", 15, "an inline file settles by itself")
    same(get(shown("inline")), b"small", "object of an inline file")
    same(state(case, ".tmp.AbCdEf"), "inline", "a temporary name")
    before = case.suite.massfs_json("status", case.mount.path)["reconciler"]
    check(before["records"] >= 2, f"records in status: {before}")
    case.suite.massfs("settle", "--wait", case.dir)
    for name in ("patched", "holes", ".tmp.AbCdEf"):
        same(state(case, name), "settled", name)
    check(get(shown("patched")) == big, "object of a changed file")
    same(get(shown(".tmp.AbCdEf")), b"temporary", "object of a temporary name that stayed")
    found = os.stat(shown("holes"))
    check(found.st_size == 1 << 30 and found.st_blocks < 1000, f"a sparse file's object: {found}")
    fd = os.open(case.path("holes"), os.O_RDONLY)
    check(os.lseek(fd, 0, os.SEEK_HOLE) <= 16384, "the hole is not known any more")
    os.close(fd)
    after = case.suite.massfs_json("status", case.mount.path)["reconciler"]
    check(after["settled"] >= before["settled"] + 3 and after["copied_bytes"] >= 3 << 20, f"status {before} {after}")


def case_settle_without_waiting(case):
    put(case.path("f"), noise(3, 200000))
    with open(case.path("f"), "r+b") as file:
        file.write(b"changed")
    same(state(case, "f"), "patched", "a changed file")
    case.suite.massfs("settle", case.path("f"))
    wait_for(lambda: state(case, "f") == "settled", 10, "a file whose settle was asked for")


def case_patched_files_survive_a_remount(case):
    """An umount settles what is small, and leaves the rest to the next mount."""
    put(case.path("inline"), b"small")
    put(case.path("small"), noise(4, 200000))
    with open(case.path("small"), "r+b") as file:
        file.write(b"changed")
    put(case.path("f"), noise(4, 6 << 20))
    with open(case.path("f"), "r+b") as file:
        file.write(b"changed")
    case.remount()
    same((state(case, "inline"), state(case, "small"), state(case, "f")), ("settled", "settled", "patched"), "after an unmount")
    same(get(case.path("f"))[:7], b"changed", "its content")
    same(get(case.path("inline")), b"small", "content of a small file")
    case.suite.massfs("settle", "--wait", case.mount.path)
    same(get(case.volume.object(case.rel(case.path("f"))))[:8], b"changed" + noise(4, 6 << 20)[7:8], "its object")


def case_rsync_is_not_copied_again(case):
    """Temporary names: what the reconciler moves is little but for files that were in the index."""
    if not shutil.which("rsync"):
        return
    rng, source, total = random.Random(5), case.suite.path("rsync-source"), 0
    os.makedirs(source)
    for number in range(600):
        size = rng.choice((100, 5000, 30000, 70000, 200000)) + rng.randrange(100)
        put(os.path.join(source, f"f{number}"), rng.randbytes(size))
        total += size
    before = case.suite.massfs_json("status", case.mount.path)["reconciler"]
    subprocess.run(["rsync", "-a", source + "/", case.path("copy")], check=True, timeout=120)
    case.suite.massfs("settle", "--wait", case.mount.path)
    after = case.suite.massfs_json("status", case.mount.path)["reconciler"]
    copied = after["copied_bytes"] - before["copied_bytes"]
    check(copied < 0.05 * total, f"{copied} of {total} bytes were copied: {before} {after}")
    for number in range(600):
        check(get(case.volume.object(case.rel(case.path(f"copy/f{number}")))) == get(os.path.join(source, f"f{number}")),
              f"object of f{number}")


def case_import(case):
    """What other programs put among the objects, and what they remove."""
    def shown(name):
        return case.volume.object(case.rel(case.path(name)))
    put(case.path("f"), b"mine" * 10000)
    put(case.path("gone"), b"gone" * 10000)
    os.listdir(case.dir)
    check(not os.path.exists(case.path("new")), "there already")
    os.unlink(shown("f"))
    put(shown("f"), b"theirs")
    os.makedirs(shown("new"))
    put(os.path.join(shown("new"), b"file"), b"new", 0o604)
    os.chown(os.path.join(shown("new"), b"file"), 1000, 1001)
    same(get(case.path("f")), b"mine" * 10000, "content before the import")
    _, text = case.suite.massfs("import", case.dir)
    check("2 imported" in text, f"import says {text}")
    same(get(case.path("f")), b"theirs", "content after the import")
    same(get(case.path("new/file")), b"new", "a new file")
    found = os.stat(case.path("new/file"))
    same((found.st_mode & 0o7777, found.st_uid, found.st_gid), (0o604, 1000, 1001), "mode and owner")
    same(len(versions(case, case.path("f"))), 1, "versions of what was there")
    os.unlink(shown("gone"))
    _, text = case.suite.massfs("import", "--deletes", case.dir)
    check("1 removed" in text, f"import --deletes says {text}")
    check(not os.path.exists(case.path("gone")), "it is still there")
    same(sorted(os.listdir(case.dir)), ["f", "new"], "names")
    case.suite.massfs("undelete", case.path("gone"))
    same(get(case.path("gone")), b"gone" * 10000, "undeleted")
    put(shown("met"), b"by a rename")
    os.rename(case.path("gone"), case.path("met"))
    wait_for(lambda: get(case.path("met")) == b"by a rename", 10, "a file that the reconciler meets is imported")


def case_view_after_unlink_and_create(case):
    """The reconciler that hides a deleted file's key must not hide the file that has come in its place."""
    def work(thread):
        for number in range(150):
            path = case.path(f"t{thread}-{number}")
            put(path, b"old")
            os.unlink(path)
            if number % 3:
                put(path, b"new %d" % number)
            if number % 3 == 2:
                os.rename(path, path + "-renamed")
                put(path, b"third")
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    case.suite.massfs("settle", "--wait", case.mount.path)
    base = case.volume.object(case.rel(case.dir))
    want = {os.fsencode(n): get(case.path(n)) for n in os.listdir(case.dir)}
    shown = {n: get(os.path.join(base, n)) for n in os.listdir(base)}
    missing, more = sorted(set(want) - set(shown)), sorted(set(shown) - set(want))
    check(not missing and not more, f"{len(missing)} files not shown: {missing[:5]}; {len(more)} shown, but deleted: "
          f"{more[:5]}")
    same(shown, want, "contents")


def case_view_of_names_that_are_no_keys(case):
    """They lie below .massfs/o/, and leave nothing there when they go."""
    names = [b"latin-\xe4", b"d" * 250 + b"\xff"]
    deep = os.path.join(os.fsencode(case.dir), *[b"e" * 200] * 6)
    os.makedirs(deep)
    paths = [os.path.join(os.fsencode(case.dir), n) for n in names] + [os.path.join(deep, b"f")]
    for path in paths:
        put(path, b"content of " + path[-10:])
    case.suite.massfs("settle", "--wait", case.mount.path)
    keys = [case.suite.massfs_json("info", os.fsdecode(p))["key"] for p in paths]
    check(all(k.startswith(".massfs/o/") for k in keys), f"keys {keys}")
    case.remount()
    for path in paths:
        same(get(path), b"content of " + path[-10:], "content")
        os.unlink(path)
    case.suite.massfs("settle", "--wait", case.mount.path)
    left = [k for k in keys if os.path.exists(case.volume.object(k))]
    same(left, [], "keys of deleted files that are still shown")


def case_view_of_a_rename_is_no_copy(case):
    data = noise(1, 8 << 20)
    put(case.path(".big.AbCdEf"), data)
    os.rename(case.path(".big.AbCdEf"), case.path("big"))
    case.suite.massfs("settle", "--wait", case.mount.path)
    first = os.stat(case.volume.object(case.rel(case.path("big"))))
    os.rename(case.path("big"), case.path("other"))
    case.suite.massfs("settle", "--wait", case.mount.path)
    second = os.stat(case.volume.object(case.rel(case.path("other"))))
    same(second.st_ino, first.st_ino, "the object after a rename is another file")
    check(get(case.volume.object(case.rel(case.path("other")))) == data, "content")


def case_object_attributes(case):
    path = put(case.path("f"), b"x")
    os.chmod(path, 0o640)
    case.suite.massfs("settle", "--wait", case.mount.path)
    mode = os.stat(case.volume.object(case.rel(path))).st_mode
    check(not mode & 0o222, f"an object can be written: {mode:o}")


def case_gc_is_a_dry_run(case):
    for number in range(30):
        put(case.path(f"f{number}"), noise(number, 10000))
        put(case.path(f"f{number}"), noise(number + 100, 10000))
    for number in range(10):
        os.unlink(case.path(f"f{number}"))
    case.suite.massfs("settle", "--wait", case.mount.path)  # nothing becomes an object between the counts
    count = count_versions(case)
    case.suite.massfs("gc", case.mount.path)
    check(count > 0, "nothing was stored")
    same(count_versions(case), count, "versions after a dry run")
    case.suite.massfs("gc", "--delete", case.mount.path)
    same(count_versions(case), count, "versions within their retention after gc --delete")
    for number in range(10, 30):
        check(get(case.path(f"f{number}")) == noise(number + 100, 10000), "content after gc")
    for number in range(10):
        case.suite.massfs("undelete", case.path(f"f{number}"))
        check(get(case.path(f"f{number}")) == noise(number + 100, 10000), "content undeleted after gc")


def count_versions(case):
    return case.volume.count_versions()


def case_retention_ends(case):
    """With no retention, what was replaced and deleted is collected, and nothing else."""
    case.remount("allow_other,retention=0,inline=0")
    put(case.path("kept"), b"kept")
    before = count_versions(case)
    for number in range(20):
        put(case.path(f"f{number}"), b"1" * 1000)
        put(case.path(f"f{number}"), b"2" * 1000)
        os.unlink(case.path(f"f{number}"))
    check(count_versions(case) > before, "nothing was stored")
    time.sleep(1)
    case.suite.massfs("gc", "--delete", case.mount.path)
    report = case.suite.massfs_json("gc", case.mount.path)
    print(f"       {count_versions(case) - before} versions wait for their grace period: {report}", flush=True)
    same(get(case.path("kept")), b"kept", "content")
    case.remount("allow_other")
    same(get(case.path("kept")), b"kept", "content after a remount")


def case_offline_verbs(case):
    put(case.path("f"), b"one")
    put(case.path("f"), b"two")
    put(case.path("gone"), b"deleted")
    os.unlink(case.path("gone"))
    rel, rel_gone = case.rel(case.path("f")), case.rel(case.path("gone"))
    path, volume = case.mount.path, case.volume
    case.mount.umount()
    try:
        case.suite.massfs("fsck", volume.dir)
        case.suite.massfs("status", volume.dir)
        case.suite.massfs("gc", volume.dir)
        report = case.suite.massfs_json("versions", "--volume", volume.dir, rel)
        case.suite.massfs("restore", "--volume", volume.dir, f"{rel}@{version_names(report)[-1]}")
        case.suite.massfs("undelete", f"{volume.dir}:/{rel_gone}")
        case.suite.massfs("settle", "--wait", volume.dir)
        same(get(volume.object(rel)), b"one", "object of the restored file")
        case.suite.massfs("info", volume.object(rel).decode())
    finally:
        case.runner.mount = volume.mount(case.runner.opts, path=path)
    same(get(case.path("f")), b"one", "restored offline")
    same(get(case.path("gone")), b"deleted", "undeleted offline")


def case_fsck_of_a_mounted_volume(case):
    put(case.path("f"), b"x")
    _, text = case.suite.massfs("fsck", case.mount.path)
    check(text.strip(), "fsck says nothing")


def case_json_is_json(case):
    path = put(case.path('quote"back\\slash\n\x01é'), b"x")
    put(path, b"y")
    for verb in ("info", "versions"):
        json.dumps(case.suite.massfs_json(verb, path))
    latin = os.fsencode(case.dir) + b"/latin-\xe4"
    put(latin, b"x")
    json.dumps(case.suite.massfs_json("info", os.fsdecode(latin)))


def case_not_in_a_mount(case):
    for verb in ("info", "versions", "undelete", "status", "settle"):
        rc, text = case.suite.massfs(verb, "/etc/passwd", ok=None)
        check(rc != 0 and text.strip(), f"{verb} of a file elsewhere: {rc}, {text}")
    raises(errno.ENOENT, os.stat, case.path("passwd"))


if __name__ == "__main__":
    run_cases("verbs", __doc__, {n: mfs.massfs_only(c) for n, c in globals().items() if n.startswith("case_")})
