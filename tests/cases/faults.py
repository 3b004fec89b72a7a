#!/usr/bin/env python3
"""What breaks under a running rsync: nodes of MinIO, MongoDB, Redis, the network, credentials, the bucket, disks. Nothing that was said
to be durable is lost, nothing is done twice, EIO comes at the deadline where it can't go on, nothing hangs, and no restart is needed."""
import errno
import os
import re
import signal
import socket
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cluster
import loopdev
import mfs
from load import Load, make_source
from mfs import check, same, wait_for
from workers import Worker, close_files

DEADLINE = 60  # of one request; then EIO
SMALL_DISKS = {"small disk of minio": ("s3", "drive", 1200 << 20), "small disk of mongo": ("mongo", "data", 300 << 20)}
NET = ("10.77.0.1", "10.77.0.2")


class World:
    """Servers, a volume, two mounts: one that works, one that looks at the end."""

    def __init__(self, suite, name, more="", special="", **kwargs):
        self.suite = suite
        self.special = special
        self.long = suite.long
        self.slow = 10 if suite.sanitizer else 1
        self.source = suite.path("source")
        if not os.path.exists(self.source):
            make_source(self.source, suite.seed)
        inside = make_network() if special == "another host" else []
        self.cluster = cluster.Cluster(suite, suite.path(name), more=more, **kwargs)
        self.servers = self.cluster.servers
        self.proxies = self.servers.proxies if self.servers else {}
        self.rng = suite.rng
        self.unsure = set()
        self.disk = None
        if special in SMALL_DISKS:
            self.disk = self.onto_a_small_disk(*SMALL_DISKS[special])
        suite.exec_prefix = inside
        first = self.cluster.mount("m1")
        suite.exec_prefix = []
        self.m = [first, self.cluster.mount("m2")]

    def onto_a_small_disk(self, service, folder, size):
        service = getattr(self.servers, service)
        where = f"{service.dir}/{service.name}/{folder}"
        service.kill(sig=signal.SIGTERM)
        os.rename(where, f"{where}.before")
        loopdev.small_fs(f"{self.cluster.place}/disk.img", where, size)
        mfs.run(["cp", "-a", f"{where}.before/.", where])
        service.start()
        return where

    def load(self, name, errnos=(errno.EIO,)):
        os.mkdir(f"{self.m[0].path}/{name}")
        mfs.put(f"{self.m[0].path}/{name}/cached", b"c" * 100000)
        load = Load(self, f"{self.m[0].path}/{name}", f"{self.m[1].path}/{name}", errnos)
        load.cached = os.open(f"{self.m[0].path}/{name}/cached", os.O_RDONLY)
        same(len(os.pread(load.cached, 100000, 0)), 100000, "what is read into the cache")
        load.progress(30 * (3 if self.slow > 1 else 1))
        return load

    def cached_reads_go_on(self, load):
        start = time.monotonic()
        same(os.pread(load.cached, 100000, 0), b"c" * 100000, "a cached read while it is broken")
        check(time.monotonic() - start < 2 * self.slow, f"a cached read took {time.monotonic() - start:.1f} s")

    def fault(self, name, begin, end, seconds, eio=False, back=30, work=True):
        """The frame of most cases. work: the witness gets on while it is broken."""
        load = self.load(name)
        try:
            begin()
            try:
                self.cached_reads_go_on(load)
                if work:
                    load.progress(seconds + 20 * (3 if self.slow > 1 else 1))
                load.go_on(seconds)
            finally:
                end()
            took = load.progress(back * (2 if self.slow > 1 else 1))
            print(f"       {took:.1f} s after it was well, three more files were durable", flush=True)
        finally:
            os.close(load.cached)
            load.end()
        load.judge(eio=eio, longest=DEADLINE + 30)

    def tolerate(self, call, seconds=60):
        cluster.patiently(call, seconds)


def world(long_only=False, **kwargs):
    def mark(call):
        call.world = kwargs
        call.long_only = long_only
        return call
    return mark


ALL = ("s3", "mongo", "redis")


# ---- MinIO

@world(minio="minio4")
def case_a_node_is_killed_and_brought_back(w):
    w.fault("killed", lambda: w.servers.s3.kill(1), lambda: w.servers.s3.start(1), 20 if w.long else 5)


@world(minio="minio4", long_only=True)
def case_a_node_hangs_and_goes_on(w):
    w.fault("hangs", lambda: w.servers.s3.freeze(2), lambda: w.servers.s3.thaw(2), 20, back=60, work=False)


@world(proxied=ALL)
def case_minio_is_stopped_for_a_while(w):
    w.fault("stopped", w.servers.s3.kill, w.servers.s3.start, 20 if w.long else 8, work=False)


@world(proxied=ALL, long_only=True)
def case_minio_is_away_for_longer_than_the_deadline(w):
    """Closes say EIO at the deadline, not earlier by much, and no restart is needed."""
    w.fault("away", w.servers.s3.kill, w.servers.s3.start, DEADLINE + 30, eio=True, work=False, back=60)


# ---- MongoDB

@world(proxied=ALL)
def case_mongodb_is_killed_and_restarted(w):
    def killed():
        w.servers.mongo.kill()
        time.sleep(0.5 if not w.long else 3)
        w.servers.mongo.start()

    load = w.load("mongo-killed")
    for _ in range(10 if w.long else 2):
        killed()
        load.progress(40 * (2 if w.slow > 1 else 1))
    os.close(load.cached)
    load.judge(longest=DEADLINE + 30)


@world(proxied=ALL)
def case_mongodb_hangs(w):
    w.fault("mongo-hangs", w.servers.mongo.freeze, w.servers.mongo.thaw, 20 if w.long else 6, work=False)


@world(proxied=ALL, long_only=True)
def case_mongodb_is_away_for_longer_than_the_deadline(w):
    w.fault("mongo-away", w.servers.mongo.freeze, w.servers.mongo.thaw, DEADLINE + 30, eio=True, work=False, back=60)


# ---- Redis: costs speed, never correctness

class RedisClient:
    def __init__(self, servers):
        self.sock = socket.create_connection(servers.ends["redis"], 5)
        self.file = self.sock.makefile("rb")
        if servers.redis_password():
            self("AUTH", servers.redis_password())

    def __call__(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        return self.answer()

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise OSError(errno.EIO, rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest


@world(proxied=ALL)
def case_redis_is_killed_and_comes_back_empty(w):
    def again():
        w.servers.redis.start()
    w.fault("redis-killed", w.servers.redis.kill, again, 10 if w.long else 3)


@world(proxied=ALL)
def case_redis_hangs(w):
    w.fault("redis-hangs", w.servers.redis.freeze, w.servers.redis.thaw, 20 if w.long else 5)


@world(proxied=ALL)
def case_redis_is_full_of_garbage(w):
    """Random bytes, values of other keys, a restored older dump."""
    load = w.load("garbage")
    client = RedisClient(w.servers)
    wait_for(lambda: client("KEYS", "*"), 20 * (2 if w.slow > 1 else 1), "Redis to be used, again")
    older = {}
    spoiled = 0
    for _ in range(20 if w.long else 5):
        keys = client("KEYS", "*")
        dump = {k: client("DUMP", k) for k in keys}
        dump = {k: v for k, v in dump.items() if v}
        for key in keys:
            spoiled += 1
            what = w.rng.randrange(4)
            if what == 0:
                client("SET", key, w.rng.randbytes(w.rng.randrange(1, 300)))
            elif what == 1 and dump:
                client("RESTORE", key, 0, w.rng.choice(list(dump.values())), "REPLACE")
            elif what == 2 and key in older:
                client("RESTORE", key, 0, older[key], "REPLACE")
        older.update({k: v for k, v in dump.items() if k not in older})
        load.go_on(0.5)
        load.progress(30 * (2 if w.slow > 1 else 1), 1)
    check(spoiled > 20, f"there was next to nothing in Redis: {spoiled} keys")
    os.close(load.cached)
    load.judge(longest=DEADLINE)


# ---- the network

def proxies_of(w, service):
    found = w.proxies[service]
    return found if isinstance(found, list) else [found]


@world(proxied=ALL)
def case_connections_are_reset(w):
    load = w.load("reset")
    for n in range(60 if w.long else 12):
        for proxy in proxies_of(w, ("s3", "mongo", "redis")[n % 3]):
            proxy.reset()
        load.go_on(0.3)
    load.progress(40)
    os.close(load.cached)
    load.judge(longest=DEADLINE + 30)


@world(proxied=ALL)
def case_the_network_is_cut_for_a_service(w):
    for service in ("s3", "mongo", "redis"):
        def cut(service=service):
            for proxy in proxies_of(w, service):
                proxy.cut()

        def back(service=service):
            for proxy in proxies_of(w, service):
                proxy.restore()
        w.fault(f"cut-{service}", cut, back, 15 if w.long else 3, work=service == "redis")


@world(proxied=ALL)
def case_the_network_swallows_everything(w):
    """No reset, no answer: for each service in turn."""
    for service in ("s3", "mongo", "redis") if w.long else ("mongo", "redis"):
        def hang(service=service):
            for proxy in proxies_of(w, service):
                proxy.hang()

        def back(service=service):
            for proxy in proxies_of(w, service):
                proxy.restore()
        w.fault(f"swallow-{service}", hang, back, 15 if w.long else 4, work=service == "redis")


LOSABLE = {"s3": ("PUT", "PUT part", "POST begin", "POST complete", "GET"),
           "mongo": ("insert", "update", "commitTransaction", "find", "findAndModify"), "redis": ()}


def bulk(root, elsewhere, until):
    """Files of three parts, and a read of each at the other mount, so that uploads and reads are there to be hit."""
    n = 0
    while not os.path.exists(until):
        n += 1
        data = os.urandom(11 << 20)
        try:
            mfs.put(f"{root}/bulk{n % 3}", data)
        except OSError as error:
            raise mfs.Failure(f"a file of 11 MiB: {error}") from error
        if mfs.get(f"{elsewhere}/bulk{n % 3}") != data:
            time.sleep(2)  # close-to-open has its time
            check(mfs.get(f"{elsewhere}/bulk{n % 3}") == data, f"round {n}: other bytes at the other mount")
    return n


@world(proxied=ALL)
def case_replies_are_lost(w):
    """Of each kind of request, after the server did the work: nothing is done twice."""
    load = w.load("lost")
    big = Worker(bulk, load.root, load.elsewhere, load.stop_file)
    load.go_on(4)
    for service in ("s3", "mongo", "redis"):
        hit = {}
        for kind in sorted({k for p in proxies_of(w, service) for k in p.counts()}):
            rules = [p.on(f"^{re.escape(kind)}$", "lose", skip=0 if "POST" in kind else w.rng.randrange(3),
                          times=5 if w.long else 2) for p in proxies_of(w, service)]
            end = time.monotonic() + (20 if kind.removesuffix(" files") in LOSABLE[service] else 5 if w.long else 0.5)
            while time.monotonic() < end and not any(r.left == 0 for r in rules):
                load.go_on(0.05)
            hit[kind] = sum(r.hits for r in rules)
            for proxy in proxies_of(w, service):
                proxy.forget()
        print(f"       {service}: " + ", ".join(f"{k} {n}" for k, n in hit.items()), flush=True)
        missed = [k for k in LOSABLE[service] if not any(n for h, n in hit.items() if h.startswith(k))]
        check(not missed, f"{service}: no reply was lost of {missed}: {hit}")
    load.progress(60)
    os.close(load.cached)
    load.end()
    print(f"       {big.result(DEADLINE + 30)} files of 11 MiB", flush=True)
    load.judge(longest=DEADLINE + 30)


@world(proxied=ALL, long_only=True)
def case_replies_are_cut_in_the_middle(w):
    load = w.load("half")
    for n in range(30):
        for proxy in proxies_of(w, ("s3", "mongo", "redis")[n % 3]):
            proxy.on(".", "half", skip=w.rng.randrange(20), times=2)
        load.go_on(0.5)
    w.servers.restore()
    load.progress(60)
    os.close(load.cached)
    load.judge(longest=DEADLINE + 30)


@world(proxied=ALL)
def case_the_network_is_slow(w):
    """50 ms to MongoDB, 20 to MinIO, a megabyte a second, and 503 now and then: slower, and that is all."""
    def begin():
        for proxy in proxies_of(w, "s3"):
            proxy.delay, proxy.rate = 0.02, 1 << 20
            proxy.on("PUT|POST", "slow", skip=5, times=5)
        w.proxies["mongo"].delay = 0.05
    w.fault("slow", begin, w.servers.restore, 15 if w.long else 4, back=40)


@world(proxied=ALL, listen=NET[0], special="another host", long_only=True)
def case_the_network_of_a_host_is_cut(w):
    """By `ip link`: no packet comes or goes for the first mount's host."""
    w.fault("netns", lambda: mfs.run(["ip", "link", "set", "massfs0", "down"]), lambda: mfs.run(["ip", "link", "set", "massfs0", "up"]),
            20, work=False, back=60)


def make_network():
    """A network namespace as the first mount's host, with one cable to here (all in the suite's own namespaces)."""
    os.makedirs("/run/netns", exist_ok=True)
    mfs.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"])
    mfs.run(["ip", "netns", "add", "massfs"])
    mfs.run(["ip", "link", "add", "massfs0", "type", "veth", "peer", "name", "massfs1", "netns", "massfs"])
    mfs.run(["ip", "addr", "add", f"{NET[0]}/24", "dev", "massfs0"])
    mfs.run(["ip", "link", "set", "massfs0", "up"])
    inside = ["nsenter", "--net=/run/netns/massfs"]
    mfs.run([*inside, "ip", "addr", "add", f"{NET[1]}/24", "dev", "massfs1"])
    mfs.run([*inside, "ip", "link", "set", "massfs1", "up"])
    mfs.run([*inside, "ip", "link", "set", "lo", "up"])
    return inside


# ---- what an administrator does

@world(long_only=True)
def case_credentials_are_revoked(w):
    """MinIO restarted under others: EIO and a log line; with the right ones it goes on by itself."""
    node = w.servers.s3.nodes[0]
    right = {k: node["env"][k] for k in (b"MINIO_ROOT_USER", b"MINIO_ROOT_PASSWORD")}
    load = w.load("revoked", (errno.EIO, errno.EACCES))
    w.servers.s3.kill()
    w.servers.s3.start(env={b"MINIO_ROOT_USER": b"somebodyelse", b"MINIO_ROOT_PASSWORD": b"else-secret"})
    start = time.monotonic()
    wait_for(lambda: re.search(r"(?i)access.?key|credential|403|denied|signature", w.m[0].log_text()), DEADLINE + 30, "a line of the log that tells why")
    print(f"       the log tells after {time.monotonic() - start:.1f} s", flush=True)
    load.go_on(5)
    w.servers.s3.kill()
    w.servers.s3.start(env=right)
    load.progress(60)
    os.close(load.cached)
    load.judge(eio=True, longest=DEADLINE + 30)


@world(long_only=True, special="no bucket")
def case_the_bucket_is_deleted(w):
    """EIO for what is in it, never ENOENT or zeros; a new one with versions, and new files go on without a restart."""
    root = f"{w.m[0].path}/gone"
    os.mkdir(root)
    data = mfs.noise(1, 3 << 20)
    mfs.put(f"{root}/old", data)
    w.suite.massfs("settle", "--wait", w.m[0].path)
    bucket = w.servers.bucket
    bucket.request("DELETE", headers={"x-minio-force-delete": "true"}.items())
    start = time.monotonic()
    try:
        mfs.put(f"{root}/new", data)
        raise mfs.Failure("a file is durable in a bucket that is not there")
    except OSError as error:
        same(error.errno, errno.EIO, "a close without a bucket")
    check(time.monotonic() - start < DEADLINE + 30, "EIO came after the deadline")
    mfs.drop_caches()
    for mount in w.m:
        try:
            got = mfs.get(f"{mount.path}/gone/old")
            check(got == data, "other bytes for a file whose object is gone")
        except OSError as error:
            same(error.errno, errno.EIO, "a read without a bucket")
    bucket.request("PUT")
    bucket.request("PUT", query="versioning=", body=b'<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>')
    w.tolerate(lambda: mfs.put(f"{root}/after", data), 60)
    check(mfs.get(f"{w.m[1].path}/gone/after") == data, "what was written after the bucket came back")


@world(long_only=True, special="small disk of minio")
def case_the_disk_of_minio_is_full(w):
    full_disk(w, "full-minio")


@world(long_only=True, special="small disk of mongo")
def case_the_disk_of_mongodb_is_full(w):
    full_disk(w, "full-mongo")


def fill(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (64 << 20, 1 << 20, 4096):
        try:
            while True:
                os.posix_fallocate(fd, os.fstat(fd).st_size, size)
        except OSError as error:
            same(error.errno, errno.ENOSPC, "the disk")
    os.close(fd)


def full_disk(w, name):
    load = w.load(name, (errno.EIO, errno.ENOSPC))
    ballast = f"{w.disk}/ballast"
    fill(ballast)
    start = time.monotonic()
    for _ in range(20):
        load.go_on(1)
        fill(ballast)  # what the server freed meanwhile
    check(w.m[0].alive(), "the daemon has ended")
    try:
        os.unlink(ballast)
    finally:
        w.servers.restore()  # a database that ended for lack of space is started again
    load.progress(DEADLINE + 30)
    print(f"       full for {time.monotonic() - start:.0f} s", flush=True)
    os.close(load.cached)
    load.judge(eio=True, longest=DEADLINE + 30)


# ---- the suite

class Runner:
    def __init__(self, suite):
        self.suite = suite
        self.worlds = {}

    def world(self, kwargs):
        key = "-".join(["w", kwargs.get("minio", "minio"), "proxied" if kwargs.get("proxied") else "direct",
                        kwargs.get("special", "")]).strip("-").replace(" ", "_")
        if key not in self.worlds:
            self.worlds[key] = World(self.suite, key, **kwargs)
        return key, self.worlds[key]

    def run(self, name, call):
        start = time.monotonic()
        key = None
        try:
            key, w = self.world(call.world)
            w.servers.restore()
            call(w)
            print(f"ok     {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception as error:  # the next case runs whatever this one met
            where = [t for t in traceback.extract_tb(error.__traceback__) if "/tests/" in t.filename]
            line = " < ".join(f"{os.path.basename(t.filename)}:{t.lineno}" for t in reversed(where[-3:]))
            self.suite.fail(f"{name} at {line}: {type(error).__name__}: {error}")
            close_files()
            if key:
                self.drop(key)
        if key in self.worlds and call.world.get("special") == "no bucket":
            self.drop(key)

    def drop(self, key):
        """A world in which something has failed says nothing more: the next case gets a new one."""
        w = self.worlds.pop(key)
        for mount in w.cluster.live():
            mount.kill()
        w.servers.stop()
        os.rename(w.cluster.place, f"{w.cluster.place}.{time.monotonic_ns()}")

    def finish(self):
        for key, w in self.worlds.items():
            start = time.monotonic()
            try:
                w.cluster.done(unsure=w.unsure)
                print(f"ok     the volume of {key} is whole, and in the bucket ({time.monotonic() - start:.1f} s)", flush=True)
            except Exception as error:
                traceback.print_exc()
                self.suite.fail(f"at the end of {key}: {type(error).__name__}: {error}")
                for mount in list(self.suite.mounts):
                    mount.kill()


def body(suite):
    if suite.plain:
        raise mfs.Skip("a bare directory has no servers")
    runner = Runner(suite)
    for name, call in list(globals().items()):
        if name.startswith("case_") and (not suite.args.only or suite.args.only in name):
            if suite.long or suite.args.only or not call.long_only:
                runner.run(name[len("case_"):], call)
    runner.finish()


if __name__ == "__main__":
    mfs.main("faults", __doc__, body)
