"""A volume on a cluster and its mounts, for all cases of a suite of several mounts, and the run of these cases."""
import os
import time
import traceback

import cluster
import mfs
from mfs import get, wait_for
from workers import close_files


class World:
    """One volume and its mounts, for all cases of a kind; a mount that a case has killed is there again for the next one."""

    def __init__(self, suite, name, n=3, more="", **kwargs):
        self.suite = suite
        self.long = suite.long
        self.rng = suite.rng
        self.slow = 10 if suite.sanitizer else 1
        self.cluster = cluster.Cluster(suite, suite.path(name), more=more, **kwargs)
        self.m = self.cluster.mounts(n)

    def need(self):
        for n, mount in enumerate(self.m):
            if not mount.alive() or mount not in self.suite.mounts:
                self.m[n] = self.cluster.mount(os.path.basename(mount.path))

    def dir(self, name):
        """A new directory, as a path below each mount."""
        os.mkdir(f"{self.m[0].path}/{name}")
        paths = [f"{m.path}/{name}" for m in self.m]
        for path in paths:
            wait_for(lambda p=path: os.path.isdir(p), 5 * self.slow, f"{path} to be seen")
        return paths


def stat_or_none(path):
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def read_or_none(path):
    try:
        return get(path)
    except FileNotFoundError:
        return None


def other_world(**kwargs):
    """The case gets a volume of its own, made with these."""
    def mark(call):
        call.world = kwargs
        return call
    return mark


def run_cases(suite, cases):
    only = suite.args.only
    worlds = {}
    for name, call in list(cases.items()):
        if not name.startswith("case_") or only and only not in name:
            continue
        kwargs = getattr(call, "world", {})
        key = "mounts" if not kwargs else name[len("case_"):]
        start = time.monotonic()
        try:
            if key not in worlds:
                worlds[key] = World(suite, key, **kwargs)
            worlds[key].need()
            call(worlds[key])
            print(f"ok     {name[5:]} ({time.monotonic() - start:.1f} s)", flush=True)
        except mfs.Skip as reason:
            suite.skips.append(name)
            print(f"skip   {name[5:]}: {reason}", flush=True)
        except Exception as error:  # the next case runs whatever this one met
            where = [t for t in traceback.extract_tb(error.__traceback__) if "/tests/" in t.filename]
            line = " < ".join(f"{os.path.basename(t.filename)}:{t.lineno}" for t in reversed(where[-3:]))
            suite.fail(f"{name[5:]} at {line}: {type(error).__name__}: {error}")
            close_files()
            for mount in worlds[key].m if key in worlds else ():
                mount.thaw() if hasattr(mount, "thaw") else None
        if key in worlds and kwargs:
            finish(suite, key, worlds.pop(key))
    for key, w in worlds.items():
        finish(suite, key, w)


def finish(suite, key, w):
    try:
        w.cluster.done()
    except Exception as error:
        suite.fail(f"at the end of {key}: {type(error).__name__}: {error}")
        for mount in list(suite.mounts):
            mount.kill()


