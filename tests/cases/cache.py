#!/usr/bin/env python3
"""The block cache under a mount (cache-dir=, cache-local: the objects are local files): bytes are always right, the bound
holds, the hot set stays, and a cache folder that is damaged, killed, full, locked or gone costs nothing but speed."""
import glob
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, run, same

MIB = 1 << 20
LIMIT = 8 * MIB


class World:
    """A volume with some files, and a mount with a cache over it."""

    def __init__(self, suite, place, sizes, opts="cache-size=8M"):
        self.suite = suite
        self.volume = suite.volume(os.path.basename(place) + "/volume").format()
        self.cache = f"{self.volume.dir}-cache"
        self.opts = opts
        self.wanted = {}
        mount = self.volume.mount("allow_other,inline=0")
        for number, size in enumerate(sizes):
            data = mfs.noise(suite.seed + number, size)
            self.wanted[f"f{number}"] = data
            mfs.put(f"{mount.path}/f{number}", data)
        mount.umount()
        self.mount = self.start()

    def start(self):
        return self.volume.mount(f"allow_other,cache-local,cache-dir={self.cache},{self.opts}")

    def remount(self):
        self.mount.umount()
        self.mount = self.start()

    def forget(self):
        """The kernel's pages go, so that reads are asked of the daemon (and the cache) again."""
        mfs.drop_caches()

    def read(self, *names):
        for name in names or self.wanted:
            data = mfs.get(f"{self.mount.path}/{name}")
            check(data == self.wanted[name], f"{name}: wrong bytes ({len(data)} of {len(self.wanted[name])})")

    def status(self):
        return self.suite.massfs_json("status", self.mount.path)

    def blocks(self):
        return sorted(glob.glob(f"{self.cache}/mfs-*.blk"))

    def on_disk(self):
        total = 0
        for path in self.blocks():
            try:
                total += os.stat(path).st_blocks * 512
            except FileNotFoundError:
                pass
        return total

    def done(self):
        self.mount.umount()
        self.volume.fsck()


def case_bigger_than_the_cache(suite, place):
    world = World(suite, place, [30 * MIB + 77, 5 * MIB, 0, 1, MIB, MIB + 1, 100000])
    for _ in range(2):
        world.read()
        world.forget()
        check(world.on_disk() <= LIMIT, f"{world.on_disk()} bytes in the cache folder")
    status = world.status()
    check(status["cache"] and status["cache_limit"] == LIMIT and status["cache_bytes"] <= LIMIT, f"{status}")
    check(status["cache_evicted"] > 20 and not status["cache_bad"] and not status["cache_degraded"], f"{status}")
    check("cache:" in suite.massfs("status", world.mount.path)[1], "status does not tell of the cache")
    # Parts of it, out of order.
    with open(f"{world.mount.path}/f0", "rb", buffering=0) as file:
        rng = random.Random(suite.seed)
        for _ in range(200):
            at, size = rng.randrange(30 * MIB), rng.randrange(1, 300000)
            file.seek(at)
            check(file.read(size) == world.wanted["f0"][at:at + size], f"at {at}")
    world.done()


def case_hot_set_stays(suite, place):
    world = World(suite, place, [2 * MIB, 40 * MIB])
    for _ in range(2):
        world.read("f0")
        world.forget()
    for _ in range(2):
        world.read("f1")
        world.forget()
    before = world.status()
    world.read("f0")
    after = world.status()
    same(after["cache_misses"] - before["cache_misses"], 0, "blocks of the hot file that had gone")
    check(after["cache_hits"] > before["cache_hits"], "nothing was asked of the cache")
    world.done()


def case_second_open_reads_nothing(suite, place):
    world = World(suite, place, [3 * MIB])
    world.read("f0")
    check(world.status()["bytes_read"] >= 3 * MIB, "the kernel asked for nothing")

    def read_again():  # another suite may empty the kernel's caches meanwhile
        before = world.status()["bytes_read"]
        world.read("f0")
        return world.status()["bytes_read"] - before
    same(min(read_again() for _ in range(4)), 0, "bytes read by a further open of an unchanged file")
    data = bytearray(world.wanted["f0"])
    data[MIB:MIB + 3] = b"new"
    with open(f"{world.mount.path}/f0", "r+b", buffering=0) as file:
        file.seek(MIB)
        file.write(b"new")
    world.wanted["f0"] = bytes(data)
    world.read("f0")
    world.forget()
    world.read("f0")
    world.done()


def bdi(mount):
    dev = os.stat(mount.path).st_dev
    with open(f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}/read_ahead_kb", encoding="ascii") as file:
        return int(file.read())


def case_read_ahead_kb(suite, place):
    world = World(suite, place, [100])
    if not os.access("/sys/class/bdi", os.R_OK):
        raise mfs.Skip("no /sys/class/bdi here")
    mfs.wait_for(lambda: bdi(world.mount) == 4096, what="read_ahead_kb of 4096")
    world.mount.umount()
    world.opts += ",read_ahead_kb=512"
    world.mount = world.start()
    mfs.wait_for(lambda: bdi(world.mount) == 512, what="read_ahead_kb of 512")
    world.done()


def case_kill_keeps_valid_blocks(suite, place):
    world = World(suite, place, [5 * MIB + 5], "cache-size=64M")
    world.read()
    mfs.wait_for(lambda: len(world.blocks()) == 6, what="6 blocks on disk")
    world.mount.kill()
    with open(f"{world.cache}/mfs-tmp-00000007", "wb") as file:
        file.write(b"half a block")
    mfs.put(f"{world.cache}/mine", b"not of massfs")
    run(["umount", "-l", world.mount.path], ok=None)
    mfs.drop_caches()
    world.mount = world.start()
    same(world.status()["cache_blocks"], 6, "blocks found again")
    world.read()
    status = world.status()
    same((status["cache_misses"], status["cache_bad"]), (0, 0), "misses, bad")
    check(not os.path.exists(f"{world.cache}/mfs-tmp-00000007"), "an unfinished block is still there")
    same(mfs.get(f"{world.cache}/mine"), b"not of massfs", "a file that is not ours")
    world.done()


def flip(path, at):
    with open(path, "r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


def case_damage_is_never_read(suite, place):
    world = World(suite, place, [4 * MIB, 3 * MIB - 100], "cache-size=64M")
    rng = random.Random(suite.seed)

    def swap(path):
        other = rng.choice([p for p in world.blocks() if p != path])
        mfs.renameat2(path, other, mfs.RENAME_EXCHANGE)

    ways = {"bit": lambda p: flip(p, rng.randrange(os.stat(p).st_size)), "header": lambda p: flip(p, rng.randrange(512)),
            "cut": lambda p: os.truncate(p, rng.randrange(os.stat(p).st_size)), "empty": lambda p: os.truncate(p, 0),
            "deleted": os.unlink, "swapped": swap,
            "zeros": lambda p: mfs.put(p, bytes(os.stat(p).st_size))}
    for mounted in (True, False):
        for name, way in ways.items():
            world.read()
            mfs.wait_for(lambda: len(world.blocks()) == 7, what=f"{name}: 7 blocks")
            if not mounted:
                world.mount.umount()
            for path in rng.sample(world.blocks(), 3):
                way(path)
            if not mounted:
                world.mount = world.start()
            world.forget()
            world.read()
            world.forget()
            world.read()
    check(world.status()["cache_bad"] > 0, "no damage was found")
    # A message a minute, not one for each.
    check(world.mount.log_text().count("a block was") <= 2, "too many lines in the log")
    world.done()


def case_folder_vanishes(suite, place):
    world = World(suite, place, [4 * MIB])
    world.read()
    os.rename(world.cache, f"{world.cache}.away")
    run(["rm", "-r", f"{world.cache}.away"])
    for _ in range(3):
        world.forget()
        world.read()
    check(world.status()["cache_degraded"], "status does not tell that the cache is off")
    same(world.mount.log_text().count("not used, reads go to the store"), 1, "lines in the log")
    world.remount()
    world.read()
    check(not world.status()["cache_degraded"] and world.blocks(), "the cache is not in use after the next mount")
    world.done()


def case_full_disk(suite, place):
    small = f"{place}/small"
    os.makedirs(small)
    run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", small])
    world = World(suite, place, [20 * MIB, MIB], "cache-size=64M,cache-free=0")
    world.mount.umount()
    world.cache = f"{small}/cache"
    world.mount = world.start()
    for _ in range(2):
        world.read()
        world.forget()
    check(world.blocks(), "nothing is cached although there is room")
    with open(f"{small}/hog", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    for _ in range(2):
        world.read()
        world.forget()
    world.remount()
    world.read()
    os.unlink(f"{small}/hog")
    world.remount()
    world.forget()
    world.read("f1")
    mfs.wait_for(world.blocks, what="blocks once there is room")
    world.done()
    run(["umount", small])


def case_two_mounts_one_folder(suite, place):
    world = World(suite, place, [MIB])
    other = suite.volume(os.path.basename(place) + "/other").format()
    try:
        other.mount(f"cache-local,cache-dir={world.cache}")
    except mfs.MountError as error:
        check(str(world.mount.pid) in error.text and world.cache in error.text, f"the reason names not who: {error.text}")
        check(error.rc == 32, f"exit code {error.rc}")
    else:
        raise mfs.Failure("two daemons share one cache folder")
    world.done()
    # In turn they may; blocks of one are nothing to the other.
    mount = other.mount(f"cache-local,cache-dir={world.cache}")
    mfs.put(f"{mount.path}/f0", b"other" * 100000)
    mount = mount.remount(f"cache-local,cache-dir={world.cache}")
    check(mfs.get(f"{mount.path}/f0") == b"other" * 100000, "bytes of another volume")
    mount.umount()


def case_default_size_and_local_objects(suite, place):
    world = World(suite, place, [MIB], "inline=0")
    limit = world.status()["cache_limit"]
    disk = os.statvfs(world.cache)
    check(abs(limit - min(20 << 30, disk.f_blocks * disk.f_frsize // 10)) < 1 << 20, f"the default is {limit}")
    world.mount.umount()
    world.mount = world.volume.mount(f"cache-dir={place + '/unused'}")
    same(world.status()["cache"], False, "a cache before local objects, not asked for by cache-local")
    world.read()
    world.done()


def case_warmup_and_evict(suite, place):
    world = World(suite, place, [2 * MIB + 5, 3 * MIB], "cache-size=64M")
    path = world.mount.path
    os.makedirs(f"{path}/tree/deep")
    for number in range(20):
        mfs.put(f"{path}/tree/deep/{number}", world.wanted["f0"][:40000 + number])
    os.truncate(mfs.put(f"{path}/tree/hole", b"x" * 30000), 1 << 32)
    world.volume.settle(world.mount)
    world.forget()
    blocks = world.status()["cache_blocks"]  # what settling read
    got = suite.massfs_json("warmup", "--wait", f"{path}/f0")
    same((got["files"], got["bytes"], got["failed"], got["cached_by"]), (1, 2 * MIB + 5, 0, "block cache"), "warmup of a file")
    same(world.status()["cache_blocks"], blocks + 3, "blocks")
    misses = world.status()["cache_misses"]
    world.read("f0")
    same(world.status()["cache_misses"], misses, "misses after warmup")
    text = suite.massfs("warmup", "--wait", f"{path}/tree", f"{path}/f1")[1]
    check("21 files" in text and "1 files" in text, f"warmup of two operands: {text}")
    before = world.status()
    world.forget()
    for number in range(20):
        check(mfs.get(f"{path}/tree/deep/{number}") == world.wanted["f0"][:40000 + number], "a file of the tree")
    world.read("f1")
    same(world.status()["cache_misses"], before["cache_misses"], "misses after warmup of a tree")

    read = world.status()["bytes_read"]
    got = suite.massfs_json("evict", f"{path}/f1")
    same((got["files"], got["failed"]), (1, 0), "evict")
    same(world.status()["cache_blocks"], before["cache_blocks"] - 3, "blocks after evict")

    def asked_again():
        world.read("f1")
        return world.status()["bytes_read"] > read
    mfs.wait_for(asked_again, what="the kernel's pages to be gone")
    suite.massfs("evict", path)
    left = world.status()["cache_blocks"]
    check(left <= blocks, f"{left} blocks after evict of all, {blocks} of them of what no file is any more")
    suite.massfs("warmup", f"{path}/f0", f"{path}/f1")
    mfs.wait_for(lambda: world.status()["cache_blocks"] == left + 6, what="warmup in the background")

    os.chmod(f"{path}/f0", 0o600)
    os.chmod(path, 0o755)

    def refused():
        return run([*suite.command(), "warmup", "--wait", f"{path}/f0"], ok=None)
    code, text = mfs.as_user(1234, 1234, refused)
    check(code == 1 and "ermission denied" in text, f"warmup of a file that one may not read: {code} {text}")
    code, text = suite.massfs("warmup", f"{path}/none", ok=None)
    check(code == 1 and "No such file" in text, f"{code} {text}")
    same(suite.massfs("warmup", ok=None)[0], 2, "exit code without an operand")
    suite.massfs("warmup", path)  # and unmount under it
    world.done()


def case_warmup_without_a_cache(suite, place):
    volume = suite.volume(os.path.basename(place) + "/plain").format()
    mount = volume.mount("inline=0")
    mfs.put(f"{mount.path}/f", mfs.noise(1, 3 * MIB))
    text = suite.massfs("warmup", "--wait", f"{mount.path}/f")[1]
    check("no block cache" in text and "1 files" in text, text)
    got = suite.massfs_json("evict", f"{mount.path}/f")
    same((got["files"], got["evicted_from"]), (1, "operating system"), "evict")
    mount.umount()
    text = suite.massfs("warmup", "--volume", volume.dir, "f")[1]
    check("1 files" in text, text)


def case_killed_while_it_reads(suite, place):
    world = World(suite, place, [40 * MIB])
    for number in range(6 if suite.long else 3):
        reader = os.fork()
        if reader == 0:
            try:
                mfs.get(f"{world.mount.path}/f0")
            except OSError:
                pass
            os._exit(0)
        time.sleep(0.1 * (number + 1))
        world.mount.kill()
        os.waitpid(reader, 0)
        run(["umount", "-l", world.mount.path], ok=None)
        world.mount = world.start()
        world.read()
        same(world.status()["cache_bad"], 0, "bad blocks after kill -9")
        check(world.on_disk() <= LIMIT, "more on disk than cache-size")
        check(not glob.glob(f"{world.cache}/mfs-tmp-*"), "unfinished blocks")
    world.done()


if __name__ == "__main__":
    mfs.run_free_cases("cache", __doc__, globals())
