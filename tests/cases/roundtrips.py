#!/usr/bin/env python3
"""How many requests MongoDB and MinIO receive for one operation of a user. The table is in docs/design.md ("Requests to the servers of a
cluster"), and this fails when one is more than it says."""
import os
import re
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cluster
import mfs
from mfs import check, noise, put

SERVICES = ("MongoDB", "MinIO")
AFTER = 0.05  # what an operation leaves to be done behind it counts, too
TIMES = 9
BACKGROUND = re.compile(" (beats|sessions|leases)$")  # what a mount does whether somebody works or not
TABLE = re.compile(r"^\| ([^|]+?) \| (\d+) \| (\d+) \|", re.M)


class World:
    """The mount that is counted, and one past the proxies, which makes what the first does not know."""

    def __init__(self, suite):
        self.cluster = cluster.Cluster(suite, suite.path("roundtrips"), proxied=("s3", "mongo"))
        servers = self.cluster.servers
        self.proxies = {"MongoDB": [servers.proxies["mongo"]], "MinIO": servers.proxies["s3"]}
        other = cluster.Volume(suite, "other-volume", servers, direct=True)
        other.database, other.prefix = self.cluster.volume.database, self.cluster.volume.prefix
        other._write_conf()
        self.other = other.mount("allow_other", path=suite.path("other.mnt"))
        self.cluster.all.append(self.other)
        # What is done behind an operation (the reconciler) is that mount's, so that it is not counted.
        mfs.wait_for(lambda: "does the volume's reconcile" in self.other.log_text(), 20, "the other mount to be the reconciler")
        self.here = self.cluster.mount("m1")
        self.serial = 0

    def name(self):
        self.serial += 1
        return f"n{self.serial}"

    def counted(self, call):
        """Requests of each kind while it runs, and a moment after."""
        for proxies in self.proxies.values():
            for proxy in proxies:
                proxy.clear()
        call()
        time.sleep(AFTER)
        return {service: {k: sum(p.counts().get(k, 0) for p in proxies) for p in proxies for k in p.counts() if not BACKGROUND.search(k)}
                for service, proxies in self.proxies.items()}

    def usual(self, prepare, call, times):
        """The middle of several, kind by kind: what only some have is a heartbeat."""
        samples = []
        for _ in range(times):
            given = prepare()
            time.sleep(0.05)
            samples.append(self.counted(lambda: call(given)))
        found = {}
        for service in SERVICES:
            kinds = {k for s in samples for k in s[service]}
            found[service] = {k: n for k in sorted(kinds) if (n := int(statistics.median_low([s[service].get(k, 0) for s in samples])))}
        return found


def seen(path):
    mfs.wait_for(lambda: os.path.lexists(path), 10, f"{path} to be seen")
    return path


def operations(w):
    here, other = w.here.path, w.other.path
    fds = []
    os.mkdir(f"{here}/d")
    seen(f"{other}/d")

    def made_here(size):
        path = f"{here}/d/{w.name()}"
        put(path, noise(w.serial, size))
        return path

    def made_there(size):
        name = w.name()
        put(f"{other}/d/{name}", noise(w.serial, size))
        time.sleep(0.15)
        return f"{here}/d/{name}"

    def stated():
        path = made_there(100)
        os.stat(path)
        return path

    def listing():
        if not os.path.exists(f"{other}/many"):
            os.mkdir(f"{other}/many")
            for n in range(1000):
                put(f"{other}/many/f{n}")
        while fds:
            os.close(fds.pop())
        w.here = w.here.remount("allow_other")
        w.cluster.all.append(w.here)
        os.stat(f"{here}/many")
        return f"{here}/many"

    def ls(path):
        mfs.run(["ls", "-l", path])

    def read(path):
        check(len(mfs.get(path)) == 100 << 10, "a short read")

    def opened():
        path = made_here(1 << 20)
        fd = os.open(path, os.O_RDWR)
        fds.append(fd)
        os.pread(fd, 4096, 0)
        return fd

    def overwrite(fd):
        os.pwrite(fd, b"x" * 4096, 128 << 10)
        os.fsync(fd)

    def directory():
        path = f"{here}/{w.name()}"
        os.mkdir(path)
        put(f"{path}/x", b"1")
        return path

    def massfs(*args):
        mfs.run([*w.here.suite.command(), *args])

    def tagged():
        if not os.path.exists(f"{other}/tagged"):
            os.mkdir(f"{other}/tagged")
            for n in range(10):
                put(f"{other}/tagged/f{n}")
                os.setxattr(f"{other}/tagged/f{n}", "user.round", b"trip")
            time.sleep(1)
        for _ in range(3):
            massfs("find", here, "round = trip")

    yield "stat, cold", lambda: made_there(100), os.stat
    yield "stat, warm", stated, os.stat
    yield "create, write, close of 10 KiB", w.name, lambda n: put(f"{here}/d/{n}", noise(1, 10 << 10))
    yield "create, write, close of 100 KiB", w.name, lambda n: put(f"{here}/d/{n}", noise(1, 100 << 10))
    yield "open, read 100 KiB, cold", lambda: made_there(100 << 10), read
    yield "open, read 100 KiB, again", lambda: (p := made_there(100 << 10), read(p))[0], read
    yield "rename", lambda: made_here(100), lambda p: os.rename(p, p + ".new")
    yield "unlink", lambda: made_here(100), os.unlink
    yield "4 KiB overwrite, fsync", opened, overwrite
    yield "rename of a directory", directory, lambda p: os.rename(p, p + ".new")
    yield "setxattr", stated, lambda p: os.setxattr(p, "user.year", b"2026")
    yield "massfs tag add", stated, lambda p: massfs("tag", "add", "year=2026", p)
    yield "massfs find of 10 hits, again", tagged, lambda _: massfs("find", here, "round = trip")
    yield "ls -l of 1,000 entries", listing, ls


def allowed():
    with open(f"{mfs.ROOT}/docs/design.md", encoding="utf-8") as file:
        text = file.read()
    part = text.partition("### Requests to the servers of a cluster")[2]
    check(part, "docs/design.md has no section Requests to the servers of a cluster")
    part = part.split("\n## ")[0].split("\n### ")[0]
    return {name: dict(zip(SERVICES, map(int, numbers))) for name, *numbers in TABLE.findall(part)}


def body(suite):
    if suite.plain:
        raise mfs.Skip("a bare directory asks no server")
    limits = allowed()
    w = World(suite)
    lines = []
    for name, prepare, call in operations(w):
        if suite.args.only and suite.args.only not in name:
            continue
        limit = limits.get(name)
        for _ in range(3):  # where the machine is so busy that news come late, the index is asked more often
            found = w.usual(prepare, call, 3 if "1,000" in name else TIMES)
            sums = {s: sum(found[s].values()) for s in SERVICES}
            if limit and all(sums[s] <= limit[s] for s in SERVICES):
                break
        lines.append(f"| {name} | " + " | ".join(str(sums[s]) for s in SERVICES) + " |")
        print(f"       {lines[-1]}  " + "; ".join(f"{s}: " + ", ".join(f"{n} {k}" for k, n in found[s].items())
                                                   for s in SERVICES if found[s]), flush=True)
        if limit is None:
            suite.fail(f"{name}: not in the table of docs/design.md")
            continue
        for service in SERVICES:
            if sums[service] > limit[service]:
                suite.fail(f"{name}: {sums[service]} requests to {service}, and {limit[service]} are in docs/design.md: {found[service]}")
    w.cluster.done()


if __name__ == "__main__":
    mfs.main("roundtrips", __doc__, body)
