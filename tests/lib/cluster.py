"""A volume on a cluster, for tests: MinIO, MongoDB and Redis of tests/servers, a proxy before each, any number of mounts.

    servers = Servers(place, minio="minio4")     starts them; servers.s3, .mongo, .redis are Services: kill, freeze, start
    cluster = Cluster(suite, place)              servers, a formatted volume, its .conf
    a, b, c = cluster.mounts(3)                  three daemons at three places; mfs.Mount, and freeze(), thaw(), kill()
    cluster.done()                               settle, unmount, fsck, gc (a dry run) and the bucket agree

`--store cluster` (or --cluster) of any mounted suite puts its volumes on such servers: one set for the suite, without proxies,
each volume with its own database and prefix.

With --plain the mounts are bind mounts of one directory: a local filesystem keeps every promise, which tests the tests.
"""
import hashlib
import json
import os
import re
import secrets
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.parse

import mfs
import mongo
from bucket import Bucket
from mfs import check, run
from proxy import Proxy

SERVERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "servers")
NEWS = 0.1  # what one mount does is seen by others within: promise 6
NEWS_CUT = 1.0  # the same while the news channel is cut
LEASE = 10


def started_at(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except OSError:
        return None


class Service:
    """What `tests/servers start NAME` has started; a node that was killed starts again as it was."""

    def __init__(self, place, name):
        self.name = name
        self.dir = f"{place}/servers"
        text = run([SERVERS, "start", name, "--dir", self.dir], env={**os.environ, "HOME": os.path.expanduser("~root")})[1]
        self.said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        with open(f"{self.dir}/state.json", encoding="utf-8") as file:
            self.nodes = json.load(file)[name]["processes"]
        for node in self.nodes:
            with open(f"/proc/{node['pid']}/environ", "rb") as file:
                node["env"] = dict(p.split(b"=", 1) for p in file.read().split(b"\0") if b"=" in p)
            node["frozen"] = False

    def __getitem__(self, key):
        return self.said[f"{self.name}_{key}"]

    def running(self, n=0):
        return started_at(self.nodes[n]["pid"]) == self.nodes[n]["started"]

    def kill(self, n=0, sig=signal.SIGKILL):
        os.kill(self.nodes[n]["pid"], sig)
        mfs.wait_for(lambda: not self.running(n), 20, f"{self.name} to die")

    def freeze(self, n=0):
        os.kill(self.nodes[n]["pid"], signal.SIGSTOP)
        self.nodes[n]["frozen"] = True

    def thaw(self, n=0):
        os.kill(self.nodes[n]["pid"], signal.SIGCONT)
        self.nodes[n]["frozen"] = False

    def start(self, n=0, argv=None, env=None):
        """Again, with the same data and at the same port."""
        node = self.nodes[n]
        with open(node["log"], "ab") as log:
            process = subprocess.Popen(argv or node["argv"], env={**node["env"], **(env or {})}, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True)
        node["pid"], node["started"], node["process"] = process.pid, started_at(process.pid), process
        node["argv"] = argv or node["argv"]
        node["env"].update(env or {})

    def stop(self):
        for n, node in enumerate(self.nodes):
            if self.running(n):
                if node["frozen"]:
                    self.thaw(n)
                os.kill(node["pid"], signal.SIGTERM)
        for n in range(len(self.nodes)):
            try:
                mfs.wait_for(lambda n=n: not self.running(n), 10, "its end")
            except mfs.Failure:
                self.kill(n)


def answers(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


class Servers:
    """proxied: which of s3, mongo, redis have a Proxy (self.proxies[name], for s3 a list of one per node), listening at `listen`."""

    def __init__(self, place, minio="minio", redis=True, auth=False, proxied=(), listen="127.0.0.1"):
        self.place = place
        self.proxies = {}
        self.listen = listen
        self.s3 = Service(place, minio)
        self.mongo = Service(place, "mongo")
        self.redis = Service(place, "redis") if redis else None
        self.password = secrets.token_hex(12) if auth else ""
        self.mongo_port = int(self.mongo["endpoints"].rpartition(":")[2])
        if auth:
            self._ask_for_a_password()
        self.ends = {"s3": [e.rpartition("//")[2].split(":") for e in self.s3["endpoints"].split(",")],
                     "mongo": ("127.0.0.1", self.mongo_port)}
        if redis:
            self.ends["redis"] = ("127.0.0.1", int(self.redis["endpoints"].rpartition(":")[2]))
        if "s3" in proxied:
            self.proxies["s3"] = [Proxy("http", h, int(p), listen) for h, p in self.ends["s3"]]
        for name in ("mongo", "redis"):
            if name in proxied:
                self.proxies[name] = Proxy(name, *self.ends[name], listen)
        self.bucket = Bucket.__new__(Bucket)  # the tests' own client, past the proxies
        self.bucket.service, self.bucket.dir, self.bucket.name = minio, self.s3.dir, "volume"
        self.bucket.ca, self.bucket.region = None, "us-east-1"
        self.bucket.endpoints, self.bucket.passwd = self.s3["endpoints"], self.s3["credentials"]
        with open(self.bucket.passwd, encoding="utf-8") as file:
            self.bucket.access, self.bucket.secret = file.read().strip().split(":")

    def end(self, name, direct):
        """(host, port), of s3 a list of them: behind the proxy, or the server itself."""
        found = None if direct else self.proxies.get(name)
        if found is None:
            return self.ends[name]
        return [(self.listen, p.port) for p in found] if name == "s3" else (self.listen, found.port)

    def conf(self, redis=True, direct=False):
        """The lines of [volume] that name them."""
        user = f"massfs:{self.password}@" if self.password else ""
        more = "&authSource=admin" if self.password else ""
        host, port = self.end("mongo", direct)
        lines = ["index = mongodb", f"mongodb = mongodb://{user}{host}:{port}/?replicaSet={self.mongo['replica_set']}{more}"]
        if redis and self.redis:
            host, port = self.end("redis", direct)
            lines.append(f"redis = redis://:{self.redis_password()}@{host}:{port}")
        ends = ",".join(f"http://{h}:{p}" for h, p in self.end("s3", direct))
        return lines + ["objects = s3", f"endpoint = {ends}", f"bucket = {self.bucket.name}", f"passwd_file = {self.bucket.passwd}"]

    def redis_password(self):
        path = self.redis.said.get("redis_credentials") if self.redis else None
        if not path:
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read().strip().rpartition(":")[2]

    def _ask_for_a_password(self):
        client = self.mongo_client(login=False)
        client.command("admin", createUser="massfs", pwd=self.password, roles=[{"role": "root", "db": "admin"}])
        client.close()
        self.mongo.kill(sig=signal.SIGTERM)
        self.mongo.start(argv=[*self.mongo.nodes[0]["argv"], "--auth"])
        mfs.wait_for(lambda: answers(self.mongo_port), 20, "MongoDB to ask for a password")

    def mongo_client(self, login=True):
        client = mongo.Client("127.0.0.1", self.mongo_port)
        if self.password and login:
            mongo.login(client, "massfs", self.password)
        return client

    def all_proxies(self):
        for found in self.proxies.values():
            yield from found if isinstance(found, list) else [found]

    def restore(self):
        """No fault is left: what is frozen goes on, what is dead starts, the proxies let all pass."""
        for service in filter(None, (self.s3, self.mongo, self.redis)):
            for n, node in enumerate(service.nodes):
                if not service.running(n):
                    service.start(n)
                elif node["frozen"]:
                    service.thaw(n)
        for proxy in self.all_proxies():
            proxy.restore()

    def stop(self):
        for proxy in self.all_proxies():
            proxy.close()
        for service in filter(None, (self.s3, self.mongo, self.redis)):
            service.stop()


class Volume(mfs.Volume):
    """Index in MongoDB (and Redis), objects in S3; a .conf names them, and is what verbs and mounts are given."""

    def __init__(self, suite, name, servers, more="", redis=True, direct=False):
        super().__init__(suite, name)
        self.servers = servers
        self.with_redis = redis
        self.direct = direct
        self.more = more
        self.prefix = ""
        self.database = "massfs_" + self.name.translate(str.maketrans("/.-", "___"))

    def format(self, *args):
        if self.suite.plain:
            os.makedirs(self.dir, exist_ok=True)
            return self
        self._write_conf()
        self.suite.massfs("format", *args, self.source)
        return self

    def _write_conf(self):
        self.source = self.dir = f"{self.suite.path(self.name)}.conf"
        os.makedirs(os.path.dirname(self.source), exist_ok=True)
        lines = ["[volume]", *self.servers.conf(self.with_redis, self.direct), f"database = {self.database}"]
        if self.prefix:
            lines.append(f"prefix = {self.prefix}")
        fd = os.open(self.source, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n" + self.more)

    def mount(self, opts="", path=None, source=None, **kwargs):
        self.count += 1
        path = path or self.suite.path(f"{self.name}.mnt")
        os.makedirs(path, exist_ok=True) if not os.path.lexists(path) and not mfs.dead(path) else None
        return Mount(self, path, opts, source or self.source, **kwargs)

    def object(self, path):
        raise mfs.Skip("objects are in a bucket, and no files")

    def object_digest(self, path):
        data = self.servers.bucket.get(self.prefix + os.fsdecode(path).lstrip("/"))
        return None if data is None else hashlib.sha256(data).hexdigest()

    def count_versions(self):
        return len(self.servers.bucket.all_versions(self.prefix))


class Mount(mfs.Mount):
    frozen = False

    def freeze(self):
        if self.process:
            os.kill(self.pid, signal.SIGSTOP)
            self.frozen = True

    def thaw(self):
        if self.frozen:
            os.kill(self.pid, signal.SIGCONT)
            self.frozen = False

    def umount(self, timeout=180):
        self.thaw()
        super().umount(timeout)

    def kill(self):
        """kill -9. A thread of the daemon that was telling the kernel of a name may wait in there for a call that waits for the daemon;
        then the device stays open, and all wait until the connection is aborted (umount -f).
        """
        if self in self.suite.mounts:
            self.suite.mounts.remove(self)
        if self.process and self.process.poll() is None:
            self.process.kill()
            try:
                self.process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                run(["umount", "-i", "-f", self.path], ok=None)
                self.process.wait(timeout=20)
        run(["umount", "-i", "-f", "-l", self.path], ok=None)  # the mount point would stay, dead


def suite_volume(suite, name):
    """What `suite.volume()` gives with --store cluster."""
    if suite.servers is None:
        suite.servers = Servers(suite.work)
    volume = Volume(suite, name, suite.servers)
    volume.prefix = name.replace(".", "_") + "/"
    return volume


class Cluster:
    """A volume and its servers in a directory of a case; several clusters may use the same servers."""

    def __init__(self, suite, place, servers=None, more="", with_redis=True, direct=False, **kwargs):
        self.suite = suite
        self.place = place
        self.all = []
        self.own = servers is None
        os.makedirs(place, exist_ok=True)
        self.servers = servers or (None if suite.plain else Servers(place, **kwargs))
        name = os.path.relpath(place, suite.work).replace("/", "-")  # logs lie in the suite's own folder, where they are judged
        self.volume = Volume(suite, f"{name}-volume", self.servers, more, with_redis, direct)
        self.volume.prefix = "" if self.own else name.replace(".", "_") + "/"
        self.volume.format()

    @property
    def proxies(self):
        return self.servers.proxies

    def mount(self, name, opts="", **kwargs):
        mount = self.volume.mount(",".join(o for o in ("allow_other", opts) if o), path=f"{self.place}/{name}", **kwargs)
        self.all.append(mount)
        return mount

    def mounts(self, n, opts=""):
        found = [self.mount(f"m{k + 1}", opts) for k in range(n)]
        os.chmod(found[0].path, 0o755)
        return found

    def live(self):
        return [m for m in self.all if m in self.suite.mounts]

    def done(self, settle=True, bucket=True, unsure=()):
        """All services are well, and so must the volume be: what the index says and what the bucket has agree."""
        if self.suite.plain:
            for mount in self.live():
                mount.umount()
            return
        self.servers.restore()
        live = self.live()
        for mount in live:
            check(mount.alive(), f"the daemon of {mount.path} has ended: {mount.log_text()[-2000:]}")
            mount.thaw()
        if settle and live:
            patiently(lambda: self.suite.massfs("settle", "--wait", live[0].path, timeout=300), 60)
            if bucket:
                self.compare_bucket(live[0].path, unsure)
        for mount in live:
            mount.umount()
        text = self.suite.massfs("fsck", self.volume.source)[1]
        check("PROBLEMS" not in text, text)
        found = self.suite.massfs_json("gc", self.volume.source)
        check(not found.get("missing"), f"gc finds objects missing: {found}")
        if self.own:
            self.servers.stop()

    def compare_bucket(self, root, unsure=()):
        """Another client finds the same files at their paths, byte for byte, and no others. A file with several names is at one of
        them; an empty one need not be there.
        """
        have = {k[len(self.volume.prefix):] for k in self.servers.bucket.keys(self.volume.prefix)}
        files = {}
        for where, _, names in os.walk(root):
            for name in names:
                st = os.lstat(f"{where}/{name}")
                if stat.S_ISREG(st.st_mode):
                    files.setdefault((st.st_ino, st.st_size), []).append(os.path.relpath(f"{where}/{name}", root))
        more = have - {n for names in files.values() for n in names} - set(unsure)
        check(not more, f"the bucket has {len(more)} keys that are no files: {sorted(more)[:5]}; {self.about(sorted(more)[:2])}")
        for (_, size), names in files.items():
            found = [n for n in names if n in have]
            check(found or size == 0, f"{names}: not in the bucket")
            want = mfs.digest(f"{root}/{names[0]}")
            for name in found:
                check(self.volume.object_digest(name) == want, f"{name}: other bytes in the bucket")


    def about(self, keys):
        """What bucket and index say of keys that should not be there."""
        text = []
        client = self.servers.mongo_client()
        for key in keys:
            xml = self.servers.bucket.request("GET", query=f"prefix={urllib.parse.quote(self.volume.prefix + key, safe='-_.~')}&versions=")
            text.append(f"versions of {key}: " + re.sub(r"<(Owner|StorageClass).*?</\1>", "", xml.decode())[-1500:])
            name = os.path.basename(key)
            for collection in ("files", "trash"):
                text += [f"{collection}: { {k: v for k, v in d.items() if k != 'inline'} }"
                         for d in client.find(self.volume.database, collection, {"name": name})]
            text += [f"job: {d}" for d in client.find(self.volume.database, "jobs") if name in repr(d)]
        client.close()
        return "; ".join(text)


def patiently(call, seconds):
    """Until it succeeds: after a fault a service may need a moment."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (OSError, mfs.Failure, urllib.error.URLError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
