#!/usr/bin/env python3
"""A volume whose objects are in a bucket: on a MinIO of one node and on a cluster of four (tests/servers starts them, and
builds MinIO if it is missing)."""
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from bucket import Bucket
from mfs import check, run, same

MIB = 1 << 20


class World:
    def __init__(self, suite, place, service="minio", more=""):
        self.suite = suite
        self.bucket = Bucket(place, service)
        more = more.replace("{ca}", self.bucket.ca or "")
        self.volume = suite.volume(os.path.basename(place) + "/volume")
        self.conf = f"{place}/volume.conf"
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(f"[volume]\nsource = {self.volume.dir}\n{self.bucket.conf(more)}"
                    f"[mount]\ncache_dir = {place}/cache\ncache_size = 64M\n")
        suite.massfs("format", self.conf)
        self.mount = self.start()

    def start(self):
        return self.volume.mount("allow_other", source=self.conf)

    def remount(self):
        self.mount.umount()
        mfs.drop_caches()
        subprocess.run(["rm", "-rf", f"{os.path.dirname(self.conf)}/cache"], check=True)
        self.mount = self.start()

    def done(self):
        self.suite.massfs("settle", "--wait", self.mount.path)
        self.mount.umount()
        text = self.suite.massfs("fsck", self.conf)[1]
        check("PROBLEMS" not in text, text)
        self.bucket.stop()


def make_tree(path, seed):
    """Sizes around every border there is: inline, one put, parts."""
    wanted = {}
    for n, size in enumerate((0, 1, 4096, 16384, 16385, 100000, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 17 * MIB)):
        name = f"dir {n % 3}/f+{n}%"
        os.makedirs(f"{path}/dir {n % 3}", exist_ok=True)
        wanted[name] = mfs.noise(seed + n, size)
        mfs.put(f"{path}/{name}", wanted[name])
    return wanted


def compare(path, wanted):
    for name, data in wanted.items():
        check(mfs.get(f"{path}/{name}") == data, f"{name}: other bytes")


def case_files_are_objects_at_their_paths(suite, place):
    w = World(suite, place)
    wanted = make_tree(w.mount.path, suite.seed if hasattr(suite, "seed") else 1)
    compare(w.mount.path, wanted)
    w.remount()
    compare(w.mount.path, wanted)
    with open(f"{w.mount.path}/dir 0/f+9%", "r+b") as f: # a patch into the middle of the biggest
        f.seek(6 * MIB + 17)
        f.write(b"patched")
    data = bytearray(wanted["dir 0/f+9%"])
    data[6 * MIB + 17:6 * MIB + 24] = b"patched"
    wanted["dir 0/f+9%"] = bytes(data)
    os.rename(f"{w.mount.path}/dir 1", f"{w.mount.path}/moved")
    wanted = {n.replace("dir 1/", "moved/"): d for n, d in wanted.items()}
    os.unlink(f"{w.mount.path}/dir 2/f+2%")
    del wanted["dir 2/f+2%"]
    compare(w.mount.path, wanted)
    suite.massfs("settle", "--wait", w.mount.path)
    same(w.bucket.keys(), sorted(wanted), "keys in the bucket, as another client lists them")
    for name, data in wanted.items():
        check(w.bucket.request("GET", name) == data, f"{name}: other bytes in the bucket")
    w.remount()
    compare(w.mount.path, wanted)
    w.done()


def case_foreign_write_becomes_a_version(suite, place):
    w = World(suite, place)
    mfs.put(f"{w.mount.path}/note", b"ours")
    suite.massfs("settle", "--wait", w.mount.path)
    w.bucket.request("PUT", "note", body=b"theirs, longer")
    suite.massfs("import", f"{w.mount.path}/note")
    same(mfs.get(f"{w.mount.path}/note"), b"theirs, longer", "after import")
    check("2" in suite.massfs("versions", f"{w.mount.path}/note")[1], "the old one is a version")
    w.done()


def listed(w, wanted, what):
    """After settle --wait another client's listing shows exactly these files, with these bytes."""
    w.suite.massfs("settle", "--wait", w.mount.path)
    same(w.bucket.keys(), sorted(wanted), f"keys in a listing: {what}")
    for name, data in wanted.items():
        check(w.bucket.request("GET", name) == data, f"{what}: {name}: other bytes in the bucket")


def past(w, name):
    """The contents of all versions of a path, by restoring each one."""
    entries = w.suite.massfs_json("versions", f"{w.mount.path}/{name}")
    found = [f"{e['version'].split('-')[0]}-{e['data']}.{e['ino']}" for e in entries if not e["current"]]
    contents = []
    for version in found:
        w.suite.massfs("restore", f"{w.mount.path}/{name}@{version}")
        contents.append(mfs.get(f"{w.mount.path}/{name}"))
    return contents


def case_a_file_becomes_a_directory(suite, place):
    """What a key held, a marker too, hides the keys below it from MinIO's listings."""
    w = World(suite, place)
    root, big = w.mount.path, mfs.noise(1, 100000)
    wanted = {}
    for n, name in enumerate(("at once", "moved", "settled", "renamed", "deep/er", "many")):
        os.makedirs(os.path.dirname(f"{root}/{name}"), exist_ok=True)
        mfs.put(f"{root}/{name}", big + b"%d" % n)
    for n in range(5):
        mfs.put(f"{root}/many", big + b"many%d" % n)
    os.mkdir(f"{root}/dir")
    mfs.put(f"{root}/dir/f", big)
    suite.massfs("settle", "--wait", root)
    # The file goes, the directory comes: before and after the reconciler has hidden the key.
    os.unlink(f"{root}/at once")
    os.mkdir(f"{root}/at once")
    os.rename(f"{root}/moved", f"{root}/moved.old")
    os.mkdir(f"{root}/moved")
    os.unlink(f"{root}/settled")
    suite.massfs("settle", "--wait", root)
    os.mkdir(f"{root}/settled")
    os.unlink(f"{root}/renamed")
    os.rename(f"{root}/dir", f"{root}/renamed")
    os.unlink(f"{root}/deep/er")
    os.makedirs(f"{root}/deep/er/est")
    os.unlink(f"{root}/many")
    os.mkdir(f"{root}/many")
    for name in ("at once/b", "moved/b", "settled/b", "deep/er/est/b", "many/b"):
        wanted[name] = big + name.encode()
        mfs.put(f"{root}/{name}", wanted[name])
    wanted["renamed/f"] = big
    wanted["moved.old"] = big + b"1"
    listed(w, wanted, "directories where files were")
    for name in ("at once", "settled", "renamed", "deep/er", "many"):
        same(w.bucket.count_versions(name), (0, 0), f"what the key {name} holds")
    # Nothing is lost by that.
    for name in ("at once", "settled"):
        os.rename(f"{root}/{name}", f"{root}/{name}.d")
        wanted[f"{name}.d/b"] = wanted.pop(f"{name}/b")
        suite.massfs("undelete", f"{root}/{name}")
    wanted["at once"], wanted["settled"] = big + b"0", big + b"2"
    os.rename(f"{root}/many", f"{root}/many.d")
    wanted["many.d/b"] = wanted.pop("many/b")
    suite.massfs("undelete", f"{root}/many")
    same(sorted(past(w, "many"))[:5], sorted([big + b"5", *(big + b"many%d" % n for n in range(4))]), "versions of `many`")
    wanted["many"] = mfs.get(f"{root}/many")
    compare(root, wanted)
    listed(w, wanted, "files where directories were")
    w.remount()
    compare(w.mount.path, wanted)
    w.done()


def case_many_versions_of_one_file(suite, place):
    w = World(suite, place)
    text = mfs.noise(3, 20000)
    for n in range(150):
        mfs.put(f"{w.mount.path}/f", text + b"%d" % n)
    listed(w, {"f": text + b"149"}, "after 150 versions")
    versions, _ = w.bucket.count_versions("f")
    check(versions < 100, f"{versions} versions on one key")
    same(len(suite.massfs_json("versions", f"{w.mount.path}/f")), 150, "versions")
    same(set(past(w, "f")), {text + b"%d" % n for n in range(149)}, "contents of the versions")
    w.done()


def write_and_read(w, what):
    wanted = {"small": b"x" * 100, "folder/mid": mfs.noise(1, 70000), "folder/big": mfs.noise(2, 6 * MIB)}
    for name, data in wanted.items():
        os.makedirs(os.path.dirname(f"{w.mount.path}/{name}"), exist_ok=True)
        mfs.put(f"{w.mount.path}/{name}", data)
    w.remount()
    try:
        compare(w.mount.path, wanted)
    except mfs.Failure as error:
        raise mfs.Failure(f"{what}: {error}") from error
    return wanted


def case_https_ipv6_and_virtual_hosts(suite, place):
    """By a certificate of its own authority, on [::1], with a region, and with BUCKET.HOST addresses."""
    w = World(suite, place, "miniotls", "region = eu-test-1\nca_file = {ca}\n")
    wanted = write_and_read(w, "https")
    listed(w, wanted, "https")
    w.mount.umount()
    conf = mfs.get(w.conf).decode()
    ipv6 = w.bucket.endpoints.replace("localhost", "[::1]")
    for what, text, ok in (
        ("[::1]", conf.replace(w.bucket.endpoints, ipv6), True),
        ("virtual hosts", conf.replace("[mount]", "addressing = virtual\n[mount]"), True),
        ("the certificate of nobody we know", re.sub("ca_file = .*\n", "", conf), False),
        ("virtual hosts of an address", conf.replace(w.bucket.endpoints, ipv6).replace("[mount]", "addressing = virtual\n[mount]"),
         False),
        ("another region", conf.replace("eu-test-1", "us-east-1"), False),
    ):
        mfs.put(w.conf, text.encode())
        try:
            mount = w.start()
        except mfs.MountError as error:
            check(not ok, f"{what}: {error}")
            continue
        check(ok, f"{what}: it mounts")
        compare(mount.path, wanted)
        mfs.put(f"{mount.path}/{what}", what.encode())
        wanted[what] = what.encode()
        mount.umount()
    mfs.put(w.conf, conf.encode())
    w.mount = w.start()
    listed(w, wanted, "after all ways in")
    w.done()


def case_keys_from_a_profile_with_a_session_token(suite, place):
    w = World(suite, place)
    wanted = write_and_read(w, "passwd_file")
    w.mount.umount()
    access, secret, token = w.bucket.session()
    home = f"{place}/home"
    os.makedirs(f"{home}/.aws", mode=0o700)
    path = f"{home}/.aws/credentials"
    mfs.put(path, f"[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n[work]\n"
                  f"aws_access_key_id = {access}\naws_secret_access_key = {secret}\naws_session_token = {token}\n".encode(), 0o600)
    text = re.sub("passwd_file = .*\n", "", mfs.get(w.conf).decode())
    environment = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}
    for what, more, env, ok in (
        ("profile", "profile = work\n", {"HOME": home}, True),
        ("AWS_PROFILE", "", {"HOME": home, "AWS_PROFILE": "work"}, True),
        ("environment", "", environment, True),
        ("environment without the token", "", {**environment, "AWS_SESSION_TOKEN": ""}, False),
        ("the default profile", "", {"HOME": home}, False),
        ("no keys", "", {"HOME": place}, False),
    ):
        mfs.put(w.conf, text.replace("[mount]", f"{more}[mount]").encode())
        try:
            mount = w.volume.mount("allow_other", source=w.conf, env={**suite.env, **env})
        except mfs.MountError as error:
            check(not ok, f"{what}: {error}")
            check(secret not in str(error) and token not in str(error), "a secret is shown")
            continue
        check(ok, f"{what}: it mounts")
        compare(mount.path, wanted)
        mfs.put(f"{mount.path}/{what}", mfs.noise(3, 50000))
        check(token not in mount.log_text(), "the token is in the log")
        mount.umount()
    os.chmod(path, 0o644)
    mfs.put(w.conf, text.replace("[mount]", "profile = work\n[mount]").encode())
    try:
        w.volume.mount("allow_other", source=w.conf, env={**suite.env, "HOME": home})
        raise mfs.Failure("a profile that others can read was taken")
    except mfs.MountError as error:
        check("0644" in str(error), error)
    os.chmod(path, 0o600)
    mfs.put(w.conf, text.replace("[mount]", f"passwd_file = {w.bucket.passwd}\n[mount]").encode())
    w.mount = w.start()
    w.done()


def case_a_prefix_and_a_storage_class(suite, place):
    """Two volumes and other programs' objects in one bucket; nothing of one is seen, counted or collected by the other."""
    w = World(suite, place, more="prefix = a/b/\nstorage_class = REDUCED_REDUNDANCY\n")
    w.bucket.request("PUT", "a/other", body=b"not ours")
    w.bucket.request("PUT", "a/b.not", body=b"not ours either")
    other = suite.volume(os.path.basename(place) + "/second")
    conf = f"{place}/second.conf"
    mfs.put(conf, mfs.get(w.conf).replace(b"prefix = a/b/", b"prefix = a/c/").replace(w.volume.dir.encode(), other.dir.encode())
            .replace(f"{place}/cache".encode(), f"{place}/cache2".encode()))
    suite.massfs("format", conf)
    second = other.mount("allow_other", source=conf)
    wanted = write_and_read(w, "prefix")
    mfs.put(f"{second.path}/small", b"of the second")
    for n in range(3):
        mfs.put(f"{w.mount.path}/folder/mid", mfs.noise(10 + n, 60000))
    wanted["folder/mid"] = mfs.noise(12, 60000)
    os.unlink(f"{w.mount.path}/small")
    del wanted["small"]
    for path in (w.mount.path, second.path):
        suite.massfs("settle", "--wait", path)
    same(w.bucket.keys("a/b/"), sorted(f"a/b/{n}" for n in wanted), "keys of the first")
    same(w.bucket.keys("a/c/"), ["a/c/small"], "keys of the second")
    same(len(suite.massfs_json("versions", f"{w.mount.path}/folder/mid")), 4, "versions")
    xml = w.bucket.request("GET", query="list-type=2&prefix=a%2Fb%2Ffolder").decode()
    same(set(re.findall("<StorageClass>(.*?)<", xml)), {"REDUCED_REDUNDANCY"}, "storage classes")
    second.umount()
    w.remount()
    compare(w.mount.path, wanted)
    w.mount.umount()
    suite.env["MASSFS_TEST_GC_AGE"] = os.environ["MASSFS_TEST_GC_AGE"] = "0"
    counted = suite.massfs_json("gc", w.conf)
    same(counted["foreign"], 0, "foreign objects that gc of the first sees")
    suite.massfs("gc", "--delete", w.conf)
    del suite.env["MASSFS_TEST_GC_AGE"], os.environ["MASSFS_TEST_GC_AGE"]
    same(w.bucket.get("a/c/small"), b"of the second", "the second's file after gc of the first")
    same(w.bucket.get("a/b.not"), b"not ours either", "another program's object after gc")
    w.mount = w.start()
    compare(w.mount.path, wanted)
    w.done()


def case_places(suite, place):
    """Rules by path: other buckets, prefixes and storage classes. A rename across their borders moves the object."""
    w = World(suite, place, more="prefix = v/\nplaces = media fast/m/ REDUCED_REDUNDANCY, media/raw -, logs - REDUCED_REDUNDANCY\n")
    fast = Bucket.__new__(Bucket)
    fast.__dict__.update(w.bucket.__dict__, name="fast")
    wanted = {"f": b"1" * 50000, "media/a": mfs.noise(1, 50000), "media/deep/b": mfs.noise(2, 6 * MIB), "media/raw/c": mfs.noise(3, 50000),
              "mediaX": mfs.noise(4, 50000), "logs/d": mfs.noise(5, 50000), "out": mfs.noise(6, 7 * MIB), "back": mfs.noise(7, 30000)}
    for name, data in wanted.items():
        os.makedirs(os.path.dirname(f"{w.mount.path}/{name}"), exist_ok=True)
        mfs.put(f"{w.mount.path}/{name}", data)

    def compare_places(what):
        suite.massfs("settle", "--wait", w.mount.path)
        there = {n for n in wanted if n.startswith("media/") and not n.startswith("media/raw/")}
        same(fast.keys("m/"), sorted(f"m/{n}" for n in there), f"{what}: keys of the other bucket")
        same(w.bucket.keys("v/"), sorted(f"v/{n}" for n in wanted if n not in there), f"{what}: keys of the volume's bucket")
        for name, data in wanted.items():
            check((fast.get(f"m/{name}") if name in there else w.bucket.get(f"v/{name}")) == data, f"{what}: {name}: other bytes")

    compare_places("as written")
    xml = w.bucket.request("GET", query="list-type=2&prefix=v%2Flogs").decode()
    same(set(re.findall("<StorageClass>(.*?)<", xml)), {"REDUCED_REDUNDANCY"}, "storage classes")
    for old, new in (("out", "media/out"), ("media/a", "a"), ("media/raw/c", "media/c"), ("media/deep/b", "media/raw/b")):
        os.rename(f"{w.mount.path}/{old}", f"{w.mount.path}/{new}")
        wanted[new] = wanted.pop(old)
    os.unlink(f"{w.mount.path}/back")
    os.mkdir(f"{w.mount.path}/back")
    mfs.put(f"{w.mount.path}/media/a", b"again" * 9999)
    wanted["media/a"] = b"again" * 9999
    del wanted["back"]
    compare_places("after renames")
    w.remount()
    compare(w.mount.path, wanted)
    os.rename(f"{w.mount.path}/media", f"{w.mount.path}/films")
    wanted = {re.sub("^media/", "films/", n): d for n, d in wanted.items()}
    compare_places("after the rename of a directory")
    os.mkdir(f"{w.mount.path}/media")
    fast.request("PUT", "m/media/foreign", body=b"theirs")
    suite.massfs("import", f"{w.mount.path}/media/foreign")
    same(mfs.get(f"{w.mount.path}/media/foreign"), b"theirs", "imported from the other bucket")
    w.mount.umount()
    suite.env["MASSFS_TEST_GC_AGE"] = os.environ["MASSFS_TEST_GC_AGE"] = "0"
    suite.massfs("gc", "--delete", w.conf)
    left = suite.massfs_json("gc", w.conf)
    same((left["unnamed"], left["dropped"]), (0, 0), "what gc leaves")
    del suite.env["MASSFS_TEST_GC_AGE"], os.environ["MASSFS_TEST_GC_AGE"]
    text = mfs.get(w.conf)
    for bad in (text.replace(b"media fast/m/", b"media other/m/"), text.replace(b"fast/m/", b"volume/v/x/")):
        mfs.put(w.conf, bad)
        try:
            w.start()
            raise mfs.Failure("other places were taken")
        except mfs.MountError:
            pass
    mfs.put(w.conf, text)
    w.mount = w.start()
    wanted["media/foreign"] = b"theirs"
    compare(w.mount.path, wanted)
    w.done()


def case_server_stops_for_a_while(suite, place):
    w = World(suite, place)
    pause = threading.Timer(0.3, os.kill, (w.bucket.pids[0], signal.SIGSTOP))
    go_on = threading.Timer(8, os.kill, (w.bucket.pids[0], signal.SIGCONT))
    pause.start()
    go_on.start()
    wanted = {}
    for n in range(30):
        wanted[f"f{n}"] = mfs.noise(n, 300000)
        mfs.put(f"{w.mount.path}/f{n}", wanted[f"f{n}"])
    go_on.join()
    w.remount()
    compare(w.mount.path, wanted)
    w.done()


def case_one_node_of_four_hangs(suite, place):
    """A MinIO whose peer hangs (SIGSTOP) stores nothing beyond what it keeps beside an object's name (32 KiB on four nodes)
    until the peer is back, whichever node is asked, and takes long to read what is spread over the drives. So small
    files go on, reads go on, and the rest waits: here for less than the deadline."""
    w = World(suite, place, "minio4")
    wanted = make_tree(w.mount.path, 7)
    os.kill(w.bucket.pids[1], signal.SIGSTOP)
    back = threading.Timer(50, os.kill, (w.bucket.pids[1], signal.SIGCONT))
    back.start()
    slowest, n = 0, 0
    try:
        while n < 8 or suite.massfs_json("status", w.mount.path)["nodes_down"] != 1:
            start = time.monotonic()
            wanted[f"small{n}"] = mfs.noise(n, 25000)
            mfs.put(f"{w.mount.path}/small{n}", wanted[f"small{n}"])
            slowest, n = max(slowest, time.monotonic() - start), n + 1
            check(back.is_alive(), "small files do not go on while a node hangs, or the node is not left")
        print(f"       {n} small files while a node hung, the slowest {slowest:.1f} s", flush=True)
        compare(w.mount.path, wanted)
        wanted["big"] = mfs.noise(9, 300000)
        mfs.put(f"{w.mount.path}/big", wanted["big"]) # no error: it waits
    finally:
        back.join()
    mfs.wait_for(lambda: suite.massfs_json("status", w.mount.path)["nodes_down"] == 0, 20, "the node to be taken back")
    wanted["after"] = mfs.noise(99, 200000)
    mfs.put(f"{w.mount.path}/after", wanted["after"])
    w.remount()
    compare(w.mount.path, wanted)
    w.done()


def case_one_node_of_four_hangs_for_good(suite, place):
    """Each close ends by the deadline: durable, or EIO."""
    w = World(suite, place, "minio4", "timeout = 20s\n")
    wanted = make_tree(w.mount.path, 7)
    os.kill(w.bucket.pids[1], signal.SIGSTOP)
    try:
        for n in range(2):
            data = mfs.noise(n, 200000)
            start = time.monotonic()
            try:
                mfs.put(f"{w.mount.path}/g{n}", data)
                wanted[f"g{n}"] = data
            except OSError as error:
                same(error.errno, errno.EIO, "the error of a close that cannot go on")
            check(time.monotonic() - start < 35, "a close took longer than its deadline")
    finally:
        os.kill(w.bucket.pids[1], signal.SIGCONT)
    mfs.wait_for(lambda: suite.massfs_json("status", w.mount.path)["nodes_down"] == 0, 20, "the node to be taken back")
    wanted["after"] = mfs.noise(99, 200000)
    mfs.put(f"{w.mount.path}/after", wanted["after"])
    w.remount()
    compare(w.mount.path, wanted)
    w.done()


def case_one_node_of_four_dies(suite, place):
    w = World(suite, place, "minio4")
    wanted = make_tree(w.mount.path, 8)
    os.kill(w.bucket.pids[2], signal.SIGKILL)
    start = time.monotonic()
    for n in range(20):
        wanted[f"g{n}"] = mfs.noise(n, 200000)
        mfs.put(f"{w.mount.path}/g{n}", wanted[f"g{n}"])
    check(time.monotonic() - start < 20, "a dead node costs next to nothing")
    same(suite.massfs_json("status", w.mount.path)["nodes_down"], 1, "nodes down")
    w.remount()
    compare(w.mount.path, wanted)
    w.done()


def case_a_killed_compose_goes_on_where_it_was(suite, place):
    """kill -9 while the reconciler composes a file part by part: the next mount sends only the parts that are missing."""
    if not re.search(rb"^MASSFS_CRASH_POINTS:BOOL=(ON|1|TRUE|YES)$", mfs.get(f"{suite.build}/CMakeCache.txt"), re.M | re.I):
        raise mfs.Skip("a build without crash points")
    suite.env["MASSFS_TEST_KEEP_MIN"] = "1"
    slowly = "allow_other,settle_rate=20M"  # so that no mount is through before it is ended
    w = World(suite, place)
    w.mount.umount()
    w.mount = w.volume.mount(slowly, source=w.conf)
    size, data = 64 * MIB, bytearray(mfs.noise(1, 64 * MIB))
    mfs.put(f"{w.mount.path}/big", data)
    with open(f"{w.mount.path}/big", "r+b", buffering=0) as f:
        for off in range(3 * MIB, size, 9 * MIB):
            data[off:off + 1000] = mfs.noise(off, 1000)
            os.pwrite(f.fileno(), data[off:off + 1000], off)
    uploads = []
    for part in (3, 5, 7):  # those before it are only counted
        w.mount.umount()
        w.mount = w.volume.mount(slowly, source=w.conf, env={**suite.env, "MASSFS_CRASH_AT": f"compose.part:{part}"})
        done = subprocess.run([*suite.command(), "settle", "--wait", w.mount.path], capture_output=True, check=False)
        check(done.returncode != 0, "settle got to its end")
        mfs.wait_for(lambda: not w.mount.alive(), 10, "the daemon's death in its compose")
        w.mount.kill()
        run(["umount", "-l", w.mount.path], ok=None)
        found = re.findall("<UploadId>(.*?)<", w.bucket.request("GET", query="prefix=big&uploads=").decode())
        same(len(found), 1, "unfinished uploads")
        uploads.append(found[0])
        w.mount = w.volume.mount(slowly, source=w.conf)
    same(len(set(uploads)), 1, "uploads begun")
    suite.massfs("gc", "--delete", w.mount.path)
    suite.massfs("settle", "--wait", w.mount.path)
    sent = suite.massfs_json("status", w.mount.path)["reconciler"]["copied_bytes"]
    check(0 < sent <= size - 7 * 5 * MIB, f"{sent} bytes were moved after parts of {size} had been")
    check(w.bucket.get("big") == data, "the object has other bytes")
    check(mfs.get(f"{w.mount.path}/big") == data, "the file has other bytes")
    same(suite.massfs_json("info", f"{w.mount.path}/big")["state"], "settled", "its state")
    check(b"<UploadId>" not in w.bucket.request("GET", query="prefix=big&uploads="), "an unfinished upload is left")
    del suite.env["MASSFS_TEST_KEEP_MIN"]
    w.done()


def case_keys_are_never_shown(suite, place):
    w = World(suite, place)
    mfs.put(f"{w.mount.path}/f", b"x" * 100000)
    secret = w.bucket.secret.encode()
    for name in ("cmdline",):
        with open(f"/proc/{w.mount.pid}/{name}", "rb") as f:
            check(secret not in f.read(), f"the secret key is in {name}")
    for text in (w.mount.log_text(), suite.massfs("status", w.mount.path)[1], suite.massfs("info", f"{w.mount.path}/f")[1]):
        check(secret.decode() not in text, "the secret key is shown")
    os.chmod(w.bucket.passwd, 0o644)
    w.mount.umount()
    text = run([*suite.command(), "mount", w.conf, w.mount.path], ok=None)
    text = text[1] if isinstance(text, tuple) else str(text)
    check("0644" in text and secret.decode() not in text, f"a passwd file that others can read: {text}")
    os.chmod(w.bucket.passwd, 0o600)
    w.mount = w.start()
    w.done()


if __name__ == "__main__":
    mfs.run_free_cases("s3", __doc__, globals())
