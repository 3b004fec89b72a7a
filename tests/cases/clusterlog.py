#!/usr/bin/env python3
"""The index of a cluster's volume from its bucket alone, and as a text: the index log that two mounts write together, rebuild
after the database was dropped, dump and load between databases and from an embedded volume."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster
import mfs
from mfs import check, get, noise, put, run_free_cases, same, wait_for
from rebuild import fill, past, same_tree, seen

OPTS = "suid,dev,index-log=1s"


def world(suite, place, n=2):
    """Servers are one set for all cases; a volume of its own, and mounts."""
    if suite.plain:
        raise mfs.Skip("a bare directory has no index")
    if suite.servers is None:
        suite.servers = cluster.Servers(suite.work)
    c = cluster.Cluster(suite, place, servers=suite.servers)
    return c, c.mounts(n, OPTS) if n else []


def drop_index(c):
    client = c.servers.mongo_client()
    client.command(c.volume.database, dropDatabase=1)
    client.close()


def databases(c):
    client = c.servers.mongo_client()
    found = [d["name"] for d in client.command("admin", listDatabases=1)["databases"] if d["name"].startswith(c.volume.database)]
    client.close()
    return sorted(found)


def log_keys(c):
    prefix = f"{c.volume.prefix}.massfs/index/"
    return sorted(k[len(prefix):] for k in c.servers.bucket.keys(prefix))


def index_log(suite, mount):
    return suite.massfs_json("status", "--json", mount.path)["index_log"]


def rebuild(c, *args):
    return c.suite.massfs_json("rebuild", *args, c.volume.source, timeout=600)


def after(c, name, opts=OPTS):
    return c.mount(name, opts)


def no_news(result):
    """Nothing was younger than the log, nothing is lost."""
    for key in ("damaged", "added", "replaced", "moved", "blocked", "lost_files", "lost_past", "lost_changes"):
        same(result[key], 0, f"{key} in {result}")


def case_two_mounts(suite, place):
    """Both write; the log is whole at the end of the last; the tree is the same, with versions and removed files."""
    c, (a, b) = world(suite, place)
    os.mkdir(f"{a.path}/A")
    os.mkdir(f"{b.path}/B")
    fill(f"{a.path}/A")
    fill(f"{b.path}/B")
    os.rename(f"{b.path}/A/d/medium", f"{b.path}/B/from-A")
    os.unlink(f"{a.path}/B/small")
    time.sleep(1.5)
    want = seen(suite, a.path)
    a.umount()  # what it had of the log goes over to the other
    put(f"{b.path}/B/late", noise(99, 30_000))
    os.rename(f"{b.path}/A/d/nothing", f"{b.path}/A/late")
    want = seen(suite, b.path)
    before = past(suite, f"{b.path}/A")
    b.umount()
    check(len(log_keys(c)) >= 2, f"no log: {log_keys(c)}")
    drop_index(c)
    result = rebuild(c)
    check(result["log"] and result["clean"], f"{result}")
    no_news(result)
    m = after(c, "m1")
    same_tree(seen(suite, m.path), want, "after rebuild")
    same(past(suite, f"{m.path}/A"), before, "versions and removed files")
    put(f"{m.path}/more", b"goes on")
    c.done(bucket=False)  # odd names are no keys


def case_one_is_killed(suite, place):
    """The mount that writes the log dies; the other goes on in the same chain."""
    c, (a, b) = world(suite, place)
    put(f"{a.path}/one", noise(1, 20_000))
    put(f"{b.path}/two", noise(2, 200_000))
    wait_for(lambda: index_log(suite, a)["snapshot"] and index_log(suite, a)["behind"] == 0, 20, "the log to be whole")
    epochs = {k.split("/")[0] for k in log_keys(c)}
    for n in range(20):
        put(f"{a.path}/a{n}", noise(n, 3000))
        put(f"{b.path}/b{n}", noise(n, 3000))
        os.rename(f"{b.path}/b{n}", f"{b.path}/r{n}")
    a.kill()
    put(f"{b.path}/three", noise(3, 20_000))
    wait_for(lambda: index_log(suite, b)["snapshot"] and index_log(suite, b)["behind"] == 0, 60, "the other to go on")
    check({k.split("/")[0] for k in log_keys(c)} == epochs, f"a new epoch: {log_keys(c)}, was {epochs}")
    os.unlink(f"{b.path}/r3")
    want = seen(suite, b.path)
    b.umount()
    drop_index(c)
    result = rebuild(c)
    check(result["log"], f"{result}")
    no_news(result)
    m = after(c, "m1")
    same_tree(seen(suite, m.path), want, "after rebuild")
    c.done(bucket=False)  # odd names are no keys


def case_frozen_writer(suite, place):
    """The mount that writes the log is frozen for longer than its lease: the other goes on; what the first stores when it wakes
    does not count."""
    c, (a, b) = world(suite, place)
    put(f"{a.path}/one", noise(1, 20_000))
    wait_for(lambda: index_log(suite, a)["snapshot"] and index_log(suite, a)["behind"] == 0, 20, "the log to be whole")
    check(index_log(suite, b)["elsewhere"], "the other writes no log")
    stop = time.monotonic() + 3
    while time.monotonic() < stop:  # it is frozen with much to write
        put(f"{a.path}/busy", noise(2, 4000))
    a.freeze()
    for n in range(10):
        put(f"{b.path}/f{n}", noise(n, 4000))
    wait_for(lambda: not index_log(suite, b)["elsewhere"] and index_log(suite, b)["snapshot"] and index_log(suite, b)["behind"] == 0,
             60, "the other to go on")
    os.rename(f"{b.path}/f1", f"{b.path}/f2")
    a.thaw()
    put(f"{a.path}/after", noise(3, 4000))
    time.sleep(2)
    os.unlink(f"{a.path}/f3")
    want = seen(suite, a.path)
    b.umount()
    a.umount()
    drop_index(c)
    result = rebuild(c)
    check(result["log"] and result["clean"], f"{result}")
    no_news(result)
    m = c.mount("m1", OPTS)
    same_tree(seen(suite, m.path), want, "after rebuild")
    c.done(bucket=False)


def case_killed_between(suite, place):
    """kill -9 behind each step of the writing: a rebuild gives a state that fits, and the next mount goes on."""
    with open(suite.command()[0], "rb") as file:
        if b"log.snapshot_stored" not in file.read():
            raise mfs.Skip("this build has no crash points")
    c, _ = world(suite, place, 0)
    for number, point in enumerate(("log.stored:1", "log.stored:3", "log.snapshot_stored:1")):
        try:
            m = c.mount(f"k{number}", OPTS, env={**suite.env, "MASSFS_CRASH_AT": point})
            for step in range(60):
                put(f"{m.path}/f{step}", noise(step, 20_000))
                os.rename(f"{m.path}/f{step}", f"{m.path}/f{step % 7}")
                time.sleep(0.1)
            raise mfs.Failure(f"{point}: not reached")
        except (OSError, mfs.MountError):
            pass  # it may die before the mount answers
        for m in c.live():
            m.kill()
        result = rebuild(c, "--force")
        check(not result["lost_files"], f"{point}: {result}")
        suite.massfs("fsck", c.volume.source)
    m = c.mount("m1", OPTS)
    wait_for(lambda: index_log(suite, m)["snapshot"] and index_log(suite, m)["behind"] == 0, 20, "the log to be whole")
    want = seen(suite, m.path)
    m.umount()
    drop_index(c)
    check(rebuild(c)["clean"], "the log goes on")
    m = c.mount("m1", OPTS)
    same_tree(seen(suite, m.path), want, "after rebuild")
    c.done(bucket=False)


def case_both_are_killed(suite, place):
    """What was not logged is found by its objects; the log says up to when it knows."""
    c, (a, b) = world(suite, place)
    put(f"{a.path}/kept", noise(1, 20_000))
    wait_for(lambda: index_log(suite, a)["snapshot"] and index_log(suite, a)["behind"] == 0, 20, "the log to be whole")
    a.umount()
    m = b
    m.umount()
    m = c.mount("m2", "suid,dev,index-log=1h")
    put(f"{m.path}/younger", noise(2, 200_000))
    put(f"{m.path}/kept", noise(3, 200_000))
    m.kill()
    drop_index(c)
    result = rebuild(c)
    check(result["log"] and not result["damaged"], f"{result}")
    same((result["added"], result["replaced"]), (1, 1), f"younger objects: {result}")
    m = after(c, "m1")
    check(get(f"{m.path}/younger") == noise(2, 200_000) and get(f"{m.path}/kept") == noise(3, 200_000), "content of what was younger")
    c.done(bucket=False)  # odd names are no keys


def case_goes_on(suite, place):
    """A mount after the last one was ended goes on in its chain; one after a tool, or a crash, begins a new epoch."""
    c, (a, b) = world(suite, place)
    put(f"{a.path}/f", b"1")
    a.umount()
    b.umount()
    first = {k.split("/")[0] for k in log_keys(c)}
    same(len(first), 1, f"epochs in {log_keys(c)}")
    m = c.mount("m1", OPTS)
    put(f"{m.path}/g", b"2")
    wait_for(lambda: index_log(suite, m)["behind"] == 0 and index_log(suite, m)["snapshot"], 20, "the log")
    m.umount()
    same({k.split("/")[0] for k in log_keys(c)}, first, "the chain goes on")
    suite.massfs("fsck", "--repair", c.volume.source)
    m = c.mount("m1", OPTS)
    wait_for(lambda: first.isdisjoint({k.split("/")[0] for k in log_keys(c)}), 30, "a new epoch")
    c.done(bucket=False)  # odd names are no keys


def case_force_and_refusals(suite, place):
    """An index that is there is replaced only if that is wanted, and kept; nobody else may have it open."""
    c, (a,) = world(suite, place, 1)
    fill(a.path)
    busy = suite.massfs("rebuild", "--force", c.volume.source, ok=(1,), timeout=120)
    check("in use" in str(busy), f"a mounted volume: {busy}")
    want = seen(suite, a.path)
    a.umount()
    used = suite.massfs("rebuild", c.volume.source, ok=(1,))
    check("--force" in str(used), f"an index that can be read: {used}")
    same(databases(c), [c.volume.database], "databases after refusals")
    check("already" in suite.massfs("upgrade", c.volume.source)[1], "there is nothing to upgrade")
    no_news(rebuild(c, "--force"))
    found = databases(c)
    check(len(found) == 2 and "_old_" in found[1], f"the old index is kept: {found}")
    m = c.mount("m1", OPTS)
    same_tree(seen(suite, m.path), want, "after rebuild --force")
    c.done(bucket=False)  # odd names are no keys


def case_dump_and_load(suite, place):
    """From a cluster and into it again: the dump of what was loaded is the dump."""
    c, (a,) = world(suite, place, 1)
    fill(a.path)
    want = seen(suite, a.path)
    before = past(suite, a.path)
    suite.massfs("dump", a.path, f"{place}/online.zst")
    a.umount()
    suite.massfs("dump", c.volume.source, f"{place}/one.zst")
    refused = suite.massfs("load", c.volume.source, f"{place}/one.zst", ok=(1,))
    check("--replace" in str(refused), f"a used volume: {refused}")
    drop_index(c)
    suite.massfs("load", c.volume.source, f"{place}/one.zst", timeout=600)
    suite.massfs("dump", c.volume.source, f"{place}/two.zst")
    check(get(f"{place}/one.zst") == get(f"{place}/two.zst"), "the dump of the loaded index is another")
    m = c.mount("m1", OPTS)
    same_tree(seen(suite, m.path), want, "after load")
    same(past(suite, m.path), before, "versions and removed files")
    m.umount()
    put(f"{place}/bad", get(f"{place}/one.zst")[:-20])
    suite.massfs("load", "--replace", c.volume.source, f"{place}/bad", ok=(1,))
    same(databases(c), [c.volume.database], "databases after a bad dump")
    suite.massfs("load", "--replace", c.volume.source, f"{place}/online.zst", timeout=600)
    m = c.mount("m1", OPTS)
    same_tree(seen(suite, m.path), want, "after load of a dump that was made online")
    c.done(bucket=False)  # odd names are no keys


def case_from_an_embedded_volume(suite, place):
    """An embedded volume with its objects in a bucket becomes one of a cluster: dump, load."""
    c, _ = world(suite, place, 0)
    drop_index(c)
    os.unlink(c.volume.source)
    prefix = f"{c.volume.prefix}moved/"
    lines = [l for l in c.servers.conf(False) if not l.startswith(("index", "mongodb"))]
    conf = f"{place}/embedded.conf"
    with open(conf, "w", encoding="utf-8") as file:
        file.write("\n".join(["[volume]", f"source = {place}/folder", *lines, f"prefix = {prefix}"]) + "\n")
    os.chmod(conf, 0o600)
    suite.massfs("format", conf)
    embedded = mfs.Volume(suite, f"{os.path.basename(place)}-e")
    embedded.dir, embedded.source = f"{place}/folder", conf
    m = embedded.mount(f"allow_other,{OPTS}", path=f"{place}/e")
    fill(m.path)
    want = seen(suite, m.path)
    before = past(suite, m.path)
    m.umount()
    suite.massfs("dump", conf, f"{place}/one.zst")
    c.volume.prefix = prefix
    c.volume._write_conf()
    suite.massfs("load", c.volume.source, f"{place}/one.zst", timeout=600)
    m = c.mount("m1", OPTS)
    got = seen(suite, m.path)
    for tree in (got, want):  # a cluster's directories have one link (rule M3)
        for record in tree.values():
            if record[0].startswith("0o4"):
                record[4] = 1
    same_tree(got, want, "after load")
    same(past(suite, m.path), before, "versions and removed files")
    put(f"{m.path}/more", b"x")
    c.done(bucket=False)  # odd names are no keys


if __name__ == "__main__":
    run_free_cases("clusterlog", __doc__, globals())
