#!/usr/bin/env python3
"""Files that share an object: what copy_file_range makes of a whole file (fs/content_share.c), and what becomes of it.

Whatever happens to one of them, with everything dropped deleted at once, the others have their bytes: overwritten, removed,
settled, restored, their index rebuilt or loaded.
"""
import glob
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, get, noise, put, run_free_cases, same

MIB = 1 << 20
OPTS = "allow_other,retention=0"


def started(suite, place, opts=OPTS):
    suite.env["MASSFS_TEST_GC_AGE"] = os.environ["MASSFS_TEST_GC_AGE"] = "0"
    volume = mfs.Volume(suite, os.path.basename(place), f"{place}/v").format()
    return volume, volume.mount(opts, path=f"{place}/m")


def copy_fd(source, target, length):
    done = 0
    while done < length:
        n = os.copy_file_range(source, target, length - done)
        if n == 0:
            break
        done += n
    return done


def copy(a, b, length=1 << 40, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    source, target = os.open(a, os.O_RDONLY), os.open(b, flags, 0o644)
    try:
        return copy_fd(source, target, length)
    finally:
        os.close(source)
        os.close(target)


def collect(suite, mount, rounds=3):
    for _ in range(rounds):
        suite.massfs("gc", "--delete", mount.path)


def stored(volume, size):
    """Versions of that size that the store holds."""
    return sum(os.path.getsize(path) == size for path in glob.glob(f"{volume.dir}/.massfs/v/*/*"))


def sound(suite, volume, mount, want, opts=OPTS):
    """The same after a remount, gc, settling, gc again; fsck and scrub find nothing."""
    def look(when):
        for name, data in want.items():
            check(get(f"{mount.path}/{name}") == data, f"{name} {when}")
    look("as it is")
    mount = mount.remount(opts)
    look("after a remount")
    collect(suite, mount)
    mount = mount.remount(opts)
    look("after gc")
    mount.umount()
    volume.fsck()
    mount = volume.mount(opts, path=mount.path)
    volume.settle(mount)
    collect(suite, mount)
    mount = mount.remount(opts)
    look("settled")
    suite.massfs("scrub", mount.path)
    mount.umount()
    volume.fsck()
    for name, data in want.items():
        check(get(volume.object(name)) == data, f"the object of {name}")


def case_the_source_goes(suite, place):
    for what in ("removed", "overwritten", "truncated", "patched"):
        os.mkdir(f"{place}/{what}")
        volume, mount = started(suite, f"{place}/{what}")
        data, path = noise(what, 3 * MIB + 77), mount.path
        put(f"{path}/a", data)
        same(copy(f"{path}/a", f"{path}/b"), len(data), "copied")
        same(stored(volume, len(data)), 1, "objects, both files' together")
        copy(f"{path}/b", f"{path}/c")
        want = {"b": data, "c": data}
        if what == "removed":
            os.unlink(f"{path}/a")
        elif what == "overwritten":
            put(f"{path}/a", b"new")
            want["a"] = b"new"
        elif what == "truncated":
            os.truncate(f"{path}/a", 1000)
            want["a"] = data[:1000]
        else:
            with open(f"{path}/a", "r+b") as file:
                file.seek(5000)
                file.write(b"patch")
            want["a"] = data[:5000] + b"patch" + data[5005:]
        collect(suite, mount)
        os.unlink(f"{path}/b")
        del want["b"]
        collect(suite, mount)
        sound(suite, volume, mount, want)


def case_all_go(suite, place):
    """The object goes with the last of them."""
    volume, mount = started(suite, place)
    data = noise(1, 2 * MIB)
    put(f"{mount.path}/a", data)
    for name in "bcd":
        copy(f"{mount.path}/a", f"{mount.path}/{name}")
    for name in "acbd":
        os.unlink(f"{mount.path}/{name}")
        collect(suite, mount)
    mount.umount()
    volume.collect()
    volume.fsck()
    same(stored(volume, len(data)), 0, "objects left")


def case_open_and_removed(suite, place):
    """A source, and a target, without a name."""
    volume, mount = started(suite, place)
    path, data = mount.path, noise(2, 2 * MIB + 5)
    put(f"{path}/a", data)
    source = os.open(f"{path}/a", os.O_RDONLY)
    os.unlink(f"{path}/a")
    target = os.open(f"{path}/b", os.O_RDWR | os.O_CREAT, 0o644)
    same(copy_fd(source, target, 1 << 40), len(data), "copied from a file without a name")
    os.unlink(f"{path}/b")
    collect(suite, mount)
    os.lseek(target, 0, os.SEEK_SET)
    nameless = os.open(f"{path}/c", os.O_RDWR | os.O_CREAT, 0o644)
    os.unlink(f"{path}/c")
    same(copy_fd(target, nameless, 1 << 40), len(data), "copied from one to another without a name")
    os.close(source)
    os.close(target)
    collect(suite, mount)
    os.lseek(nameless, 0, os.SEEK_SET)
    same(copy(f"/proc/self/fd/{nameless}", f"{path}/d"), len(data), "copied once more")
    os.close(nameless)
    collect(suite, mount)
    sound(suite, volume, mount, {"d": data})


def case_part_of_a_file(suite, place):
    """The beginning of the source; and then more of it."""
    volume, mount = started(suite, place)
    path, data = mount.path, noise(3, 5 * MIB + 123)
    put(f"{path}/a", data)
    same(copy(f"{path}/a", f"{path}/b", 2 * MIB + 1), 2 * MIB + 1, "copied")
    source, target = os.open(f"{path}/a", os.O_RDONLY), os.open(f"{path}/c", os.O_RDWR | os.O_CREAT, 0o644)
    copy_fd(source, target, 2 * MIB)
    copy_fd(source, target, 1)
    copy_fd(source, target, MIB)
    os.close(source)
    os.close(target)
    copy(f"{path}/b", f"{path}/d")
    os.truncate(f"{path}/b", 4 * MIB)  # what is behind the part is zeros, not the source's
    os.unlink(f"{path}/a")
    collect(suite, mount)
    sound(suite, volume, mount, {"b": data[:2 * MIB + 1] + bytes(2 * MIB - 1), "c": data[:3 * MIB + 1], "d": data[:2 * MIB + 1]})


def case_over_a_file(suite, place):
    """What the copy replaces is a version; open without O_TRUNC, too."""
    volume, mount = started(suite, place, "allow_other")
    path, data = mount.path, noise(4, 2 * MIB)
    put(f"{path}/a", data)
    for name, old, flags in (("b", b"old inline", os.O_WRONLY), ("c", noise(5, 1500000), os.O_WRONLY | os.O_TRUNC),
                             ("d", noise(6, 300000), os.O_WRONLY), ("e", noise(7, 3 * MIB), os.O_WRONLY)):
        put(f"{path}/{name}", old)
        copy(f"{path}/a", f"{path}/{name}", flags=flags)
        check(get(f"{path}/{name}") == data + old[2 * MIB:], f"{name} copied over")
        found = [v["version"] for v in suite.massfs_json("versions", f"{path}/{name}")[1:]]
        same(len(found), 1, f"versions of {name}")
        put(f"{path}/a", b"something else")
        suite.massfs("restore", f"{path}/{name}@{found[0]}")
        check(get(f"{path}/{name}") == old, f"{name} restored")
        found = [v["version"] for v in suite.massfs_json("versions", f"{path}/{name}")[1:]]
        suite.massfs("restore", f"{path}/{name}@{found[0]}")
        check(get(f"{path}/{name}") == data + old[2 * MIB:], f"{name} restored from what was shared")
        put(f"{path}/a", data)
    sound(suite, volume, mount, {n: data for n in "abcd"}, "allow_other")


def case_back_to_the_source(suite, place):
    volume, mount = started(suite, place)
    path, data = mount.path, noise(8, 2 * MIB)
    put(f"{path}/a", data)
    copy(f"{path}/a", f"{path}/b")
    put(f"{path}/a", b"x")
    collect(suite, mount)
    copy(f"{path}/b", f"{path}/a")
    os.unlink(f"{path}/b")
    collect(suite, mount)
    sound(suite, volume, mount, {"a": data})


def case_names_change(suite, place):
    """The copy takes the source's name, or they swap names, or one has two."""
    volume, mount = started(suite, place)
    path, want = mount.path, {}
    for what in ("replaces", "swaps", "moved", "linked"):
        data = want[f"{what}-a"] = noise(what, 2 * MIB + 1)
        put(f"{path}/{what}-a", data)
        copy(f"{path}/{what}-a", f"{path}/{what}-b")
        if what == "replaces":
            os.replace(f"{path}/{what}-b", f"{path}/{what}-a")
        elif what == "swaps":
            mfs.renameat2(f"{path}/{what}-b", f"{path}/{what}-a", 2)
            os.chmod(f"{path}/{what}-a", 0o600)
            want[f"{what}-b"] = data
        elif what == "moved":
            os.mkdir(f"{path}/d")
            os.rename(f"{path}/{what}-a", f"{path}/d/x")
            os.rename(f"{path}/{what}-b", f"{path}/{what}-a")
            want["d/x"] = data
        else:
            os.link(f"{path}/{what}-b", f"{path}/{what}-c")
            os.unlink(f"{path}/{what}-a")
            os.unlink(f"{path}/{what}-b")
            want[f"{what}-c"] = want.pop(f"{what}-a")
        collect(suite, mount, 2)
    sound(suite, volume, mount, want)


def case_rebuilt(suite, place):
    """The lists are in the index log and in a dump: a source that goes afterwards takes nothing with it."""
    for how in ("log", "dump"):
        os.mkdir(f"{place}/{how}")
        opts = OPTS + ",index-log=1s"
        volume, mount = started(suite, f"{place}/{how}", opts)
        path, data = mount.path, noise(how, 2 * MIB)
        put(f"{path}/a", data)
        copy(f"{path}/a", f"{path}/b")
        copy(f"{path}/b", f"{path}/c")
        mount.umount()
        if how == "log":
            for name in glob.glob(f"{volume.dir}/.massfs/index.db*"):
                os.unlink(name)
            suite.massfs("rebuild", volume.dir)
        else:
            suite.massfs("dump", volume.dir, f"{place}/dump.zst")
            suite.massfs("load", "--replace", volume.dir, f"{place}/dump.zst")
        mount = volume.mount(opts, path=path)
        os.unlink(f"{path}/a")
        collect(suite, mount)
        os.unlink(f"{path}/c")
        collect(suite, mount)
        sound(suite, volume, mount, {"b": data}, opts)


def case_killed(suite, place):
    """A call that returned is durable, without a close."""
    volume, mount = started(suite, place)
    path, data = mount.path, noise(9, 2 * MIB)
    put(f"{path}/a", data)
    source, target = os.open(f"{path}/a", os.O_RDONLY), os.open(f"{path}/b", os.O_RDWR | os.O_CREAT, 0o644)
    same(copy_fd(source, target, len(data)), len(data), "copied")
    mount.kill()
    for fd in (source, target):
        try:
            os.close(fd)
        except OSError:
            pass
    mfs.run(["umount", "-l", path], ok=None)
    mount = volume.mount(OPTS, path=path)
    os.unlink(f"{path}/a")
    collect(suite, mount)
    sound(suite, volume, mount, {"b": data})


def case_storm(suite, place):
    """Copies in all directions, overwritten, removed, renamed, with settle and gc beside them; everything is read back."""
    volume, mount = started(suite, place)
    path = mount.path
    stop, errors = threading.Event(), []

    def beside():
        while not stop.is_set():
            for verb in (("gc", "--delete"), ("settle", "--wait")):
                rc, text = suite.massfs(*verb, path, ok=None)
                if rc:
                    errors.append(f"{verb}: {rc}: {text[-500:]}")
                    return

    def worker(number):
        rng = mfs.random.Random(f"{suite.seed} {number}")
        want = {}
        try:
            for step in range(60 if not suite.long else 600):
                name, other = (f"w{number}-{rng.randrange(5)}" for _ in range(2))
                kind = rng.randrange(10)
                if not want or kind < 3:
                    want[name] = noise(f"{number} {step}", rng.choice((MIB, 2 * MIB + 3, 100)))
                    put(f"{path}/{name}", want[name])
                elif kind < 8 and name != other and name in want:
                    n = rng.choice((1 << 40, MIB + 9))
                    copy(f"{path}/{name}", f"{path}/{other}", n)
                    want[other] = want[name][:n]
                elif kind == 8 and name in want:
                    os.unlink(f"{path}/{name}")
                    del want[name]
                elif kind == 9 and name in want:
                    os.replace(f"{path}/{name}", f"{path}/{other}")
                    want[other] = want.pop(name)
                for n, data in want.items():
                    fd = os.open(f"{path}/{n}", os.O_RDONLY)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.close(fd)
                    check(get(f"{path}/{n}") == data, f"worker {number}, step {step}, kind {kind}: {n} differs")
            wanted.update(want)
        except Exception as error:
            errors.append(f"worker {number}: {type(error).__name__}: {error}")

    wanted = {}
    aside = threading.Thread(target=beside)
    aside.start()
    workers = [threading.Thread(target=worker, args=(n,)) for n in range(3)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    aside.join()
    same(errors, [], "errors")
    sound(suite, volume, mount, wanted)


if __name__ == "__main__":
    run_free_cases("shares", __doc__, globals())
