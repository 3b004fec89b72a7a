#!/usr/bin/env python3
"""The Rust pjdfstest 0.2.2 on a mount with allow_other,default_permissions: no failure, and no skip but the known.

Each skip is listed in SKIPPED and has its reason in tests/README.md: a test that stops to run is noticed.
"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check

VERSION = "0.2.2"
CONFIG = """
[features]
posix_fallocate = {}
utime_now = {}
utimensat = {}
rename_ctime = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [ ["nobody", "nogroup"], ["tests", "tests"] ]
"""
# allow_remount = false, link_count_max: see tests/README.md.
EROFS = {"chmod::erofs_named", "chown::erofs_named", "chown::lchown::erofs_named", "link::erofs_named",
         "mkdir::erofs_new_file", "mkfifo::erofs_new_file", "open::erofs_named", "open::erofs_new_file",
         "rename::erofs_named", "rmdir::erofs_named", "symlink::erofs_new_file", "truncate::erofs_named",
         "unlink::erofs_named"}
SKIPPED = EROFS | {"link::link_count_max"}
# Directories have one link on a cluster, as on btrfs: a count of children that several mounts make may be stale.
OTHERWISE_ON_A_CLUSTER = {"rename::updates_link_parent"}


def base_directory(mount):
    """pjdfstest 0.2.2 panics when what is left of PATH_MAX is a multiple of 127 and its directories are 22 long."""
    length = len(mount) + 1 + 22
    name = "p"
    while (4095 - length - len(name)) % 127 < 10:
        name += "p"
    path = f"{mount}/{name}"
    os.mkdir(path, 0o755)
    return path


def body(suite):
    if mfs.shutil.which("pjdfstest") is None:
        suite.fail(f"pjdfstest is not installed: cargo install pjdfstest --version {VERSION} --locked")
        return
    volume = suite.volume().format()
    # A short path: the address of a socket has room for 107 bytes. /mnt is this namespace's own.
    mfs.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"])
    mount = volume.mount("allow_other,default_permissions", path="/mnt/m")
    os.chmod(mount.path, 0o755)
    other = suite.path("other")
    mfs.run(["mkdir", "-p", other])
    mfs.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", other])
    config = suite.path("pjdfstest.toml")
    mfs.put(config, CONFIG.encode())
    only = [suite.args.only] if suite.args.only else []
    _, text = mfs.run(["pjdfstest", "-c", config, "-p", base_directory(mount.path), "-s", other, *only],
                      ok=None, timeout=1800)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    with open(suite.path("pjdfstest.txt"), "w", encoding="utf-8") as file:
        file.write(text)
    mfs.run(["umount", other])
    judge(suite, text)
    mount.umount()
    mfs.run(["umount", "/mnt"])
    volume.fsck()


def judge(suite, text):
    summary = re.search(r"Summary: (\d+) failed, (\d+) skipped, (\d+) passed, .*", text)
    check(summary, f"no summary:\n{text[-3000:]}")
    print(summary.group(0), flush=True)
    other = OTHERWISE_ON_A_CLUSTER if suite.args.store == "cluster" else set()
    results = dict(re.findall(r"^(\S+::\S+)\s+(ok|skipped|FAILED)$", text, re.M))
    for name, result in sorted(results.items()):
        if name in other:
            if result != "FAILED":
                suite.fail(f"{name} does not fail any more: take it from the list")
        elif result == "FAILED":
            detail = re.search(rf"^{re.escape(name)}\s+FAILED\n\t?(.*)", text, re.M)
            suite.fail(f"{name}: {detail.group(1) if detail else ''}")
    skipped = {n for n, r in results.items() if r == "skipped"}
    expected = EROFS if suite.plain else SKIPPED
    if suite.args.only:
        expected = {n for n in expected if suite.args.only in n}
    if skipped != expected:
        suite.fail(f"skipped, but not known to be: {sorted(skipped - expected)}; "
                   f"known, but not skipped: {sorted(expected - skipped)}")
    if int(summary.group(1)) > len(other) and not suite.failures:
        suite.fail(summary.group(0))


if __name__ == "__main__":
    mfs.main("pjdfstest", __doc__, body)
