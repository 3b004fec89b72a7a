#!/usr/bin/env python3
"""The S3 secret key and the passwords of MongoDB and Redis are nowhere but in the .conf and passwd files: not in an argv, not in the
environment of a process that massfs starts, not in logs, error texts or status output, not in index or bucket."""
import concurrent.futures
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cluster
import mfs
from mfs import check, put, run


class Watcher(threading.Thread):
    """Reads the argv and environment of every process there is, again and again; servers and this test aside."""

    def __init__(self, secrets, spared):
        super().__init__(daemon=True)
        self.secrets = secrets
        self.spared = spared
        self.found = set()
        self.looked = set()
        self.ending = False

    def run(self):
        while not self.ending:
            self.look()
            time.sleep(0.001)

    def look(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) in self.spared():
                continue
            try:
                with open(f"/proc/{pid}/comm", "rb") as file:
                    name = file.read().strip().decode()
                for what in ("cmdline", "environ"):
                    with open(f"/proc/{pid}/{what}", "rb") as file:
                        data = file.read()
                    self.looked.add(name)
                    for label, secret in self.secrets.items():
                        if secret in data:
                            self.found.add(f"the {label} in {what} of {name}")
            except OSError:
                pass


class World:
    def __init__(self, suite, place):
        self.suite = suite
        self.cluster = cluster.Cluster(suite, place, auth=True, proxied=("s3", "mongo", "redis"))
        s = self.servers = self.cluster.servers
        self.secrets = {"S3 secret": s.bucket.secret.encode(), "MongoDB password": s.password.encode(),
                        "Redis password": s.redis_password().encode()}

    def spared(self):
        return {n["pid"] for s in (self.servers.s3, self.servers.mongo, self.servers.redis) for n in s.nodes} | {os.getpid(), 1}

    def is_silent(self, text, what):
        data = text if isinstance(text, bytes) else text.encode()
        for label, secret in self.secrets.items():
            check(secret not in data, f"the {label} is in {what}")

    def variant(self, name, old, new, mode=0o600):
        with open(self.cluster.volume.source, encoding="utf-8") as file:
            text = file.read()
        changed = re.sub(old, new, text, flags=re.M)
        check(changed != text, f"nothing to change for {name}")
        path = f"{self.cluster.place}/{name}.conf"
        put(path, changed.encode(), mode)
        os.chmod(path, mode)
        return path


def case_secrets_stay_where_they_are(suite, place):
    w = World(suite, place)
    watcher = Watcher(w.secrets, w.spared)
    watcher.start()
    mount = w.cluster.mount("m1", "debug=all")
    root = mount.path
    put(f"{root}/f", b"x" * 300000)
    put(f"{root}/small", b"x")
    os.rename(f"{root}/small", f"{root}/renamed")
    said = []
    for argv in (("status", root), ("status", "--json", root), ("info", f"{root}/f"), ("versions", f"{root}/f"), ("settle", "--wait", root),
                 ("gc", root), ("--version",)):
        said.append(suite.massfs(*argv, ok=None)[1])
    # Faults, so that there is something to tell.
    for proxy in w.servers.all_proxies():
        proxy.cut()
    time.sleep(2)
    said.append(suite.massfs("status", root, ok=None)[1])
    w.servers.restore()
    cluster.patiently(lambda: put(f"{root}/after", b"y" * 100000), 60)
    check(len(mount.log_text()) > 500, "the log says next to nothing: debug does not work")
    w.is_silent(mount.log_text(), "the log")
    for text in said:
        w.is_silent(text, "an output")
    client = w.servers.mongo_client()
    database = w.cluster.volume.database
    names = [c["name"] for c in client.command(database, listCollections=1)["cursor"]["firstBatch"]]
    check("files" in names, f"the collections: {names}")
    for name in names:
        w.is_silent(repr(client.find(database, name)), f"the collection {name}")
    client.close()
    w.is_silent(w.servers.bucket.request("GET", query="list-type=2&max-keys=1000"), "the list of the bucket")
    watcher.ending = True
    watcher.join()
    check(not watcher.found, f"{sorted(watcher.found)}")
    check(any("massfs" in n for n in watcher.looked), f"no daemon was looked at: {watcher.looked}")
    w.cluster.done()


def case_errors_tell_no_secret(suite, place):
    w = World(suite, place)
    wrong = {
        "option": w.variant("option", r"(\?replicaSet=\w+)", r"\1&bogus=yes&w=nonsense"),
        "scheme": w.variant("scheme", "^mongodb = mongodb://", "mongodb = mongodib://"),
        "set": w.variant("set", r"replicaSet=\w+", "replicaSet=other"),
        "port": w.variant("port", r"^(mongodb = .*@127.0.0.1):\d+", r"\1:1"),
        "login": w.variant("login", r"^(mongodb = mongodb://massfs:)", r"\1x"),
        "half": w.variant("half", r"^(mongodb = mongodb://massfs:[^@]*)@.*", r"\1"),
        "redis": w.variant("redis", r"^redis = redis://", "redis = radis://"),
        "redis2": w.variant("redis2", r"^(redis = redis://:)", r"\1x"),
        "redis3": w.variant("redis3", r"^(redis = .*):\d+$", r"\1:1/99999"),
        "twice": w.variant("twice", r"^(mongodb = .*)$", r"\1\n\1"),
        "no-s3": w.variant("no-s3", r"^endpoint = .*", "endpoint = http://127.0.0.1:1"),
        "bad-key": w.variant("bad-key", r"^passwd_file = .*", f"access_key = {w.servers.bucket.access}\nsecret_key = {w.servers.bucket.secret}x"),
        "broken": w.variant("broken", r"^redis = ", "redis "),
    }

    def attempt(name, verb):
        """One that cannot reach a server ends at its deadline: all at once, so that they wait together."""
        argv = [verb, wrong[name]]
        if verb == "mount":
            argv.append(f"{place}/{name}")
            os.makedirs(argv[-1])
        try:
            rc, text = suite.massfs(*argv, ok=None, timeout=200)
        except subprocess.TimeoutExpired:
            return f"{verb} with {name} wrong does not end"
        if rc == 0 and verb == "mount":
            run(["umount", argv[-1]])  # a Redis that is not there does not keep it from mounting
        found = [label for label, secret in w.secrets.items() if secret in text.encode()]
        return found and f"{verb} with {name} wrong tells the {found}: {text}".replace(w.servers.password, "PASSWORD")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        bad = [x for x in pool.map(lambda a: attempt(*a), [(n, v) for n in wrong for v in ("format", "fsck", "mount")]) if x]
    check(not bad, "; ".join(bad)[:3000])
    w.servers.stop()


def case_files_that_others_can_read_are_refused(suite, place):
    w = World(suite, place)
    source = w.cluster.volume.source
    for path, what in ((source, "conf"), (w.servers.bucket.passwd, "passwd file")):
        os.chmod(path, 0o644)
        rc, text = suite.massfs("mount", source, f"{place}", ok=None)
        check(rc != 0 and "0644" in text, f"a {what} that others can read: {rc} {text}")
        w.is_silent(text, f"the refusal of the {what}")
        os.chmod(path, 0o600)
    w.servers.stop()


def case_keys_of_the_environment_go_no_further(suite, place):
    """AWS_* for the daemon: what it starts does not get them."""
    w = World(suite, place)
    path = w.variant("env", r"^passwd_file = .*\n", "")
    env = {**suite.env, "AWS_ACCESS_KEY_ID": w.servers.bucket.access, "AWS_SECRET_ACCESS_KEY": w.servers.bucket.secret}
    mount = w.cluster.volume.mount("allow_other", path=f"{place}/m1", source=path, env=env)
    watcher = Watcher({"S3 secret": w.secrets["S3 secret"]}, lambda: w.spared() | {mount.pid})
    watcher.start()
    put(f"{mount.path}/f", b"x" * 100000)
    suite.massfs("status", mount.path)
    mount.umount()
    watcher.ending = True
    watcher.join()
    check(not watcher.found, f"{sorted(watcher.found)}")
    w.servers.stop()


if __name__ == "__main__":
    mfs.run_free_cases("secrecy", __doc__, globals())
