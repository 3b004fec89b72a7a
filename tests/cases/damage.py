#!/usr/bin/env python3
"""Damage and lack: a corrupt index, missing and short objects, a full disk, a read-only directory.

Each must give a clear message and an errno, and lose nothing: once the cause is gone, all is there.
"""
import errno
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import MountError, Skip, check, get, noise, put, raises, run, run_free_cases, same


def filled(suite, place, count=30, opts="allow_other"):
    """A volume with files, unmounted; and what they hold."""
    volume = mfs.Volume(suite, os.path.basename(place), f"{place}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount(opts, path=f"{place}/m")
    contents = {}
    os.mkdir(f"{mount.path}/d")
    for number in range(count):
        name = f"d/f{number}" if number % 2 else f"f{number}"
        contents[name] = noise(number, 100 + number * 777)
        put(f"{mount.path}/{name}", contents[name])
    volume.settle(mount)  # each file is an object at its key
    mount.umount()
    return volume, f"{place}/m", contents


def verify(mount, contents, but=()):
    for name, data in contents.items():
        if name not in but:
            check(get(f"{mount.path}/{name}") == data, f"content of {name}")


def refuses(volume, mnt, says):
    """The mount ends with mount(8)'s code and a message that names the matter."""
    try:
        mount = volume.mount("allow_other", path=mnt)
    except MountError as error:
        same(error.rc, 32, f"exit code ({error.text.strip()[-500:]})")
        for word in says:
            check(word in error.text, f"the message lacks '{word}': {error.text.strip()[-500:]}")
        return error.text
    mount.umount()
    raise mfs.Failure("it mounts all the same")


def index(volume):
    return f"{volume.dir}/.massfs/index.db"


def version_file(volume, path):
    """The version that a view file is a link to."""
    ino = os.stat(volume.object(path)).st_ino
    for where, _, names in os.walk(f"{volume.dir}/.massfs/v"):
        for name in names:
            if os.stat(f"{where}/{name}").st_ino == ino:
                return f"{where}/{name}"
    raise mfs.Failure(f"no version file for {path}")


def case_index_is_no_database(suite, place):
    volume, mnt, contents = filled(suite, place)
    saved = get(index(volume))
    put(index(volume), b"this is not a database, by no means " * 1000)
    refuses(volume, mnt, ["index.db"])
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and text.strip(), f"fsck of a volume without an index: {rc}, {text}")
    put(index(volume), saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_index_pages_are_garbage(suite, place):
    """All pages but the first: found at the mount, or at the first access, never silently."""
    volume, mnt, contents = filled(suite, place, 300)
    saved = get(index(volume))
    put(index(volume), saved[:4096] + bytes(255 - b for b in saved[4096:]))
    try:
        mount = volume.mount("allow_other", path=mnt)
    except MountError as error:
        same(error.rc, 32, "exit code")
        check("index.db" in error.text or "corrupt" in error.text or "malformed" in error.text, error.text)
    else:
        numbers = set()
        for name in contents:
            try:
                check(get(f"{mount.path}/{name}") == contents[name], f"{name}: wrong content from a broken index")
            except OSError as error:
                numbers.add(error.errno)
        check(numbers and numbers <= {errno.EIO, errno.EUCLEAN}, f"errors {numbers}")
        check(mount.alive(), "the daemon died")
        check("corrupt" in mount.log_text() or "malformed" in mount.log_text(), "nothing in the log")
        suite.mounts.remove(mount)
        run(["umount", mnt], ok=None)
        mount.process.wait(60)
    for name in ("index.db-wal", "index.db-shm"):
        if os.path.exists(f"{volume.dir}/.massfs/{name}"):
            os.unlink(f"{volume.dir}/.massfs/{name}")
    put(index(volume), saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_index_is_cut_short(suite, place):
    volume, mnt, contents = filled(suite, place, 300)
    saved = get(index(volume))
    os.truncate(index(volume), len(saved) // 2 // 4096 * 4096)
    try:
        mount = volume.mount("allow_other", path=mnt)
    except MountError as error:
        same(error.rc, 32, "exit code")
        check(error.text.strip(), "no message")
    else:
        for name in contents:
            try:
                check(get(f"{mount.path}/{name}") == contents[name], f"{name}: wrong content")
            except OSError as error:
                check(error.errno in (errno.EIO, errno.EUCLEAN), str(error))
        suite.mounts.remove(mount)
        run(["umount", mnt], ok=None)
        mount.process.wait(60)
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and text.strip(), f"fsck finds a cut index clean: {text}")
    for name in ("index.db-wal", "index.db-shm"):
        if os.path.exists(f"{volume.dir}/.massfs/{name}"):
            os.unlink(f"{volume.dir}/.massfs/{name}")
    put(index(volume), saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_index_is_missing(suite, place):
    volume, mnt, contents = filled(suite, place)
    os.rename(index(volume), f"{place}/saved")
    refuses(volume, mnt, [])
    check(not os.path.exists(index(volume)), "an empty index was made in place of the missing one")
    os.rename(f"{place}/saved", index(volume))
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_object_is_missing(suite, place):
    volume, mnt, contents = filled(suite, place)
    os.rename(version_file(volume, "f2"), f"{place}/saved")
    where = volume.object("f2")
    os.unlink(where)
    mount = volume.mount("allow_other", path=mnt)
    raises(errno.EIO, get, f"{mnt}/f2")
    same(os.stat(f"{mnt}/f2").st_size, len(contents["f2"]), "size of the file without data")
    check("f2" in mount.log_text() or "missing" in mount.log_text(), f"nothing in the log: {mount.log_text()}")
    verify(mount, contents, but=("f2",))
    put(f"{mnt}/f4", b"others can be written")
    mount.umount()
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and "f2" in text, f"fsck does not name the file without data: {rc}, {text}")
    mount = volume.mount("allow_other", path=mnt)
    put(f"{mnt}/f2", b"written anew")
    same(get(f"{mnt}/f2"), b"written anew", "content written anew")
    same(get(f"{mnt}/f4"), b"others can be written", "content")
    mount.umount()
    rc, text = suite.massfs("fsck", volume.dir, ok=None)  # what is lost is now a version, and still said to be
    check(rc != 0 and "f2" in text, f"fsck forgets the version without data: {rc}, {text}")


def case_object_is_cut_short(suite, place):
    volume, mnt, contents = filled(suite, place)
    path = version_file(volume, "d/f9")
    saved = get(path)
    os.chmod(path, 0o600)
    os.truncate(path, len(saved) // 2)
    mount = volume.mount("allow_other", path=mnt)
    raises(errno.EIO, get, f"{mnt}/d/f9")
    verify(mount, contents, but=("d/f9",))
    mount.umount()
    rc, text = suite.massfs("fsck", volume.dir, ok=None)
    check(rc != 0 and "f9" in text, f"fsck does not name the short file: {rc}, {text}")
    put(path, saved)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


# --- single files under .massfs/v: each fault is found by its tool, told exactly, and never read as content ---

def flip(path, at, bit=0x10):
    """One bit of a read-only version file, from under the volume."""
    os.chmod(path, 0o600)
    with open(path, "r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))
        os.fsync(file.fileno())


def scrub(suite, where, *args):
    """Its findings, and the whole answer; the exit code says whether there are any."""
    answer = suite.massfs_json("scrub", *args, where, ok=(0, 1))
    rc, _ = suite.massfs("scrub", where, ok=(0, 1)) if not args else (1 if answer["damage"] else 0, "")
    same(rc, 1 if answer["damage"] else 0, f"exit code of scrub with {answer['damaged']} findings")
    same(len(answer["damage"]), answer["damaged"], "count of findings")
    return answer["damage"], answer


def fsck_problems(suite, where):
    answer = suite.massfs_json("fsck", where, ok=(0, 1))
    same(answer["clean"], not answer["problems"], "clean")
    return answer["problems"]


def expect_one(found, path, what, state="current", **fields):
    same([(d["path"], d["what"], d["state"]) for d in found], [(path, what, state)], "what scrub found")
    for key, value in fields.items():
        same(found[0][key], value, f"{key} of the finding")
    return found[0]


def patch_files(volume):
    """Version files that no view is a link to: patches, in a volume where all else is on show."""
    found = []
    for where, _, names in os.walk(f"{volume.dir}/.massfs/v"):
        found += [f"{where}/{n}" for n in names if os.stat(f"{where}/{n}").st_nlink == 1]
    return sorted(found, key=os.path.basename)


def case_scrub_finds_nothing_wrong(suite, place):
    volume, mnt, contents = filled(suite, place)
    found, answer = scrub(suite, volume.dir)
    same(found, [], "findings in a sound volume")
    same((answer["files"], answer["objects"], answer["unverified"]), (len(contents), len(contents), 0), "files, objects, unverified")
    same(answer["bytes"], sum(map(len, contents.values())), "bytes read")
    mount = volume.mount("allow_other", path=mnt)
    found, answer = scrub(suite, mnt)  # the same, while it is in use
    same((found, answer["objects"], answer["unverified"]), ([], len(contents), 0), "online")
    found, answer = scrub(suite, f"{mnt}/d")
    same((found, answer["objects"]), ([], sum(n.startswith("d/") for n in contents)), "of one folder")
    found, answer = scrub(suite, f"{mnt}/f2")
    same((found, answer["objects"]), ([], 1), "of one file")
    mount.umount()


def case_every_way_of_writing_gives_a_checksum(suite, place):
    """Streamed, sparse, patched, composed, renamed, copied on the server's side, restored: nothing is left unverified."""
    volume, mnt, _ = filled(suite, place, 2)
    mount = volume.mount("allow_other", path=mnt)
    big = noise("big", 23 << 20)
    for name in ("streamed", "patched", "composed", "renamed", "cut", "copied"):
        put(f"{mnt}/{name}", big)
    with open(f"{mnt}/sparse", "wb") as file:
        file.seek(40 << 20)
        file.write(big[:3 << 20])
        file.truncate(60 << 20)
    volume.settle(mount)
    os.rename(f"{mnt}/renamed", f"{mnt}/d/renamed")
    os.truncate(f"{mnt}/cut", 12 << 20)
    for name in ("composed", "patched"):
        if name == "patched":
            volume.settle(mount)
        with open(f"{mnt}/{name}", "r+b", buffering=0) as file:
            for at in range(0, 20 << 20, 3 << 20):
                os.pwrite(file.fileno(), noise(at, 5000), at + 77)
    with open(f"{mnt}/copied", "rb") as source, open(f"{mnt}/copy", "wb") as to:
        left = len(big)
        while left:
            left -= os.copy_file_range(source.fileno(), to.fileno(), left)
    found, answer = scrub(suite, mnt)
    same((found, answer["unverified"]), ([], 0), "findings and objects without a checksum")
    kind = suite.massfs_json("info", f"{mnt}/patched")["layout"]["kind"]
    same(kind, "slices", "layout of the patched file")
    mount.umount()
    volume.settle()
    found, answer = scrub(suite, volume.dir)
    same((found, answer["unverified"]), ([], 0), "after settling")
    volume.fsck()


def case_scrub_keeps_its_rate(suite, place):
    volume, mnt, contents = filled(suite, place, 2)
    mount = volume.mount("allow_other", path=mnt)
    put(f"{mnt}/big", noise(1, 6 << 20))
    start = time.monotonic()
    suite.massfs("scrub", "--rate=3MiB/s", f"{mnt}/big")
    took = time.monotonic() - start
    check(took > 1.6, f"6 MiB at 3 MiB/s in {took:.2f} s")
    for bad in ("--rate=", "--rate=x", "--rate"):
        same(suite.massfs("scrub", bad, mnt, ok=None)[0], 2, f"exit code for {bad}")
    verify(mount, contents)
    mount.umount()


def case_object_bit_flip(suite, place):
    """The length is right, so fsck has nothing to say; scrub names it; quarantine makes it EIO."""
    volume, mnt, contents = filled(suite, place)
    path = version_file(volume, "d/f9")
    version, size = os.path.basename(path), len(contents["d/f9"])
    flip(path, size // 2)
    same(fsck_problems(suite, volume.dir), [], "what fsck says of a flipped bit")
    expect_one(scrub(suite, volume.dir)[0], "d/f9", "wrong checksum", version=version, key="d/f9", object_bytes=size,
               lost_bytes=size, intact="", quarantined=False)
    mount = volume.mount("allow_other", path=mnt)
    expect_one(scrub(suite, mnt)[0], "d/f9", "wrong checksum", version=version)
    same(scrub(suite, f"{mnt}/f2")[0], [], "of another file")
    expect_one(scrub(suite, mnt, "--quarantine")[0], "d/f9", "wrong checksum", version=version, quarantined=True)
    raises(errno.EIO, get, f"{mnt}/d/f9")
    expect_one(scrub(suite, mnt)[0], "d/f9", "missing", version=version)
    verify(mount, contents, but=("d/f9",))
    mount.umount()
    check(os.path.exists(f"{volume.dir}/.massfs/damaged/{version}"), "the damaged object was not kept")
    check(not os.path.exists(path) and not os.path.exists(volume.object("d/f9")), "it is still to be read")
    problems = fsck_problems(suite, volume.dir)
    same([(p["what"], p["where"]) for p in problems], [("missing object", "d/f9")], "what fsck says then")
    # Whoever has the right bytes puts them back.
    flip(f"{volume.dir}/.massfs/damaged/{version}", size // 2)
    os.rename(f"{volume.dir}/.massfs/damaged/{version}", path)
    same(scrub(suite, volume.dir)[0], [], "after it was mended")
    suite.massfs("fsck", "--repair", volume.dir)
    same(get(volume.object("d/f9")), contents["d/f9"], "what is on show after it was mended")
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_object_bit_flip_with_an_intact_version(suite, place):
    volume, mnt, contents = filled(suite, place)
    mount = volume.mount("allow_other", path=mnt)
    put(f"{mnt}/f4", b"the new content" * 2000)
    volume.settle(mount)
    mount.umount()
    path = version_file(volume, "f4")
    flip(path, 0)
    found = expect_one(scrub(suite, volume.dir)[0], "f4", "wrong checksum")
    check(found["intact"] and "," not in found["intact"], f"intact versions: {found['intact']}")
    mount = volume.mount("allow_other", path=mnt)
    expect_one(scrub(suite, f"{mnt}/f4", "--quarantine")[0], "f4", "wrong checksum", quarantined=True)
    raises(errno.EIO, get, f"{mnt}/f4")
    suite.massfs("restore", f"{mnt}/f4@{found['intact']}")
    same(get(f"{mnt}/f4"), contents["f4"], "the restored version")
    mount.umount()


def case_version_bit_flip(suite, place):
    """Of an old version: the file itself is whole, and it is said so."""
    volume, mnt, contents = filled(suite, place)
    path = version_file(volume, "f6")
    mount = volume.mount("allow_other", path=mnt)
    put(f"{mnt}/f6", b"new" * 9000)
    volume.settle(mount)
    mount.umount()
    flip(path, 17)
    found = scrub(suite, volume.dir)[0]
    same([(d["path"], d["what"], d["version"], d["intact"]) for d in found],
         [("f6", "wrong checksum", os.path.basename(path), "current")], "what scrub found")
    check(found[0]["state"] not in ("current", "removed"), f"state {found[0]['state']}")
    mount = volume.mount("allow_other", path=mnt)
    same(get(f"{mnt}/f6"), b"new" * 9000, "the current content")
    mount.umount()


def case_removed_file_is_damaged(suite, place):
    volume, mnt, contents = filled(suite, place)
    path = version_file(volume, "f8")
    mount = volume.mount("allow_other", path=mnt)
    os.unlink(f"{mnt}/f8")
    mount.umount()
    flip(path, 3)
    expect_one(scrub(suite, volume.dir)[0], "f8", "wrong checksum", state="removed", version=os.path.basename(path))
    os.unlink(path)
    same([(p["what"], p["where"]) for p in fsck_problems(suite, volume.dir)], [("missing object", "f8")], "fsck")
    del contents["f8"]
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_objects_cut_short_and_deleted(suite, place):
    """Length and absence are fsck's, and scrub's as well; in a mount both are EIO and no byte of it is read."""
    volume, mnt, contents = filled(suite, place)
    short, gone = version_file(volume, "f12"), version_file(volume, "d/f13")
    os.chmod(short, 0o600)
    os.truncate(short, len(contents["f12"]) - 1)
    os.unlink(gone)
    os.unlink(volume.object("d/f13"))
    problems = fsck_problems(suite, volume.dir)
    same(sorted((p["what"], p["where"]) for p in problems), [("damaged object", "f12"), ("missing object", "d/f13")], "fsck")
    found = scrub(suite, volume.dir)[0]
    same(sorted((d["what"], d["path"]) for d in found), [("missing", "d/f13"), ("short", "f12")], "scrub")
    mount = volume.mount("allow_other", path=mnt)
    problems = fsck_problems(suite, mnt)
    same(sorted((p["what"], p["where"]) for p in problems), [("damaged object", "f12"), ("missing object", "d/f13")], "fsck online")
    for name in ("f12", "d/f13"):
        raises(errno.EIO, get, f"{mnt}/{name}")
    verify(mount, contents, but=("f12", "d/f13"))
    mount.umount()


BIG = 6 << 20  # an umount settles what is smaller than a part


def changed_volume(suite, place):
    """A volume with a big file whose middle was changed: the change is in a patch."""
    volume, mnt, contents = filled(suite, place, 6)
    mount = volume.mount("allow_other", path=mnt)
    base = bytearray(noise("big", BIG))
    put(f"{mnt}/big", base)
    volume.settle(mount)
    mount.umount()
    before = set(patch_files(volume))
    mount = volume.mount("allow_other", path=mnt)
    fd = os.open(f"{mnt}/big", os.O_RDWR)
    os.pwrite(fd, noise("patch", 4096), 303104)
    os.close(fd)
    base[303104:307200] = noise("patch", 4096)
    info = suite.massfs_json("info", f"{mnt}/big")
    mount.umount()
    same((info["layout"]["kind"], info["layout"]["patched_bytes"], info["layout"]["segments"]), ("slices", 4096, 1), "layout")
    contents["big"] = bytes(base)
    new = [p for p in patch_files(volume) if p not in before]
    same(len(new), 1, "patches in the store")
    return volume, mnt, contents, new[0]


def case_patch_is_damaged(suite, place):
    volume, mnt, contents, patch = changed_volume(suite, place)
    same((scrub(suite, volume.dir)[0], fsck_problems(suite, volume.dir)), ([], []), "before")
    flip(patch, 1000)
    same(fsck_problems(suite, volume.dir), [], "what fsck says of a flipped bit")
    found = expect_one(scrub(suite, volume.dir)[0], "big", "wrong checksum", version=os.path.basename(patch), object_bytes=4096,
                       lost_bytes=4096)
    check(found["key"].startswith(".massfs/patch/"), f"key {found['key']}")
    flip(patch, 1000)
    same(scrub(suite, volume.dir)[0], [], "flipped back")

    os.rename(patch, f"{place}/patch")
    problems = fsck_problems(suite, volume.dir)
    same([(p["what"], p["where"]) for p in problems], [("missing object", "big")], "fsck without the patch")
    check("bytes 303104-307199, 4096 in all" in problems[0]["detail"], f"the lost range: {problems[0]['detail']}")
    expect_one(scrub(suite, volume.dir)[0], "big", "missing", version=os.path.basename(patch), lost_bytes=4096)
    mount = volume.mount("allow_other", path=mnt)
    with open(f"{mnt}/big", "rb", buffering=0) as file:
        same(os.pread(file.fileno(), 4096, 0), contents["big"][:4096], "what is not in the patch")
        raises(errno.EIO, os.pread, file.fileno(), 100, 304000)
    verify(mount, contents, but=("big",))
    mount.umount()
    os.rename(f"{place}/patch", patch)
    os.chmod(patch, 0o600)
    os.truncate(patch, 4095)
    same([(p["what"], p["where"]) for p in fsck_problems(suite, volume.dir)], [("damaged object", "big")], "a short patch")
    expect_one(scrub(suite, volume.dir)[0], "big", "short", version=os.path.basename(patch))


def case_base_of_a_changed_file_is_damaged(suite, place):
    volume, mnt, contents, _ = changed_volume(suite, place)
    path = version_file(volume, "big")
    flip(path, 5)
    for args in ((), ("--quarantine",)):  # the state before the change, a version, is in it as a whole
        found = scrub(suite, volume.dir, *args)[0]
        same([(d["path"], d["what"], d["version"], d["lost_bytes"], d["intact"], d["quarantined"]) for d in found],
             [("big", "wrong checksum", os.path.basename(path), lost, "", bool(args)) for lost in (BIG - 4096, BIG)],
             "what scrub found")
        same(found[0]["state"], "current", "the first one")
    mount = volume.mount("allow_other", path=mnt)
    with open(f"{mnt}/big", "rb", buffering=0) as file:
        same(os.pread(file.fileno(), 4096, 303104), contents["big"][303104:307200], "what is in the patch")
        raises(errno.EIO, os.pread, file.fileno(), 100, 0)
    verify(mount, contents, but=("big",))
    mount.umount()


def case_index_bit_flips(suite, place):
    """A bit of the index: it is refused, or fsck tells, or scrub does, or no byte of any file is another one."""
    volume, mnt, contents = filled(suite, place)
    saved = get(index(volume))
    known = set(contents.values())
    used = [at for at, byte in enumerate(saved) if byte]
    told = {"refused": 0, "fsck": 0, "scrub": 0, "harmless": 0}
    for number in range(40):
        at = suite.rng.choice(used)  # most of a small index is room for more
        broken = bytearray(saved)
        broken[at] ^= 1 << suite.rng.randrange(8)
        for name in ("index.db-wal", "index.db-shm"):
            if os.path.exists(f"{volume.dir}/.massfs/{name}"):
                os.unlink(f"{volume.dir}/.massfs/{name}")
        put(index(volume), bytes(broken))
        rc, text = suite.massfs("fsck", volume.dir, ok=(0, 1))
        if rc:
            check(text.strip(), f"byte {at}: fsck fails and says nothing")
            told["refused" if "PROBLEMS" not in text else "fsck"] += 1
            continue
        rc, text = suite.massfs("scrub", volume.dir, ok=(0, 1))
        if rc:
            told["scrub"] += 1
            continue
        mount = volume.mount("allow_other", path=mnt)
        for where, _, names in os.walk(mnt):
            for name in names:
                check(get(f"{where}/{name}") in known, f"byte {at} flipped: {name} has content that was never written")
        mount.umount()
        told["harmless"] += 1
    print(f"       flips of the index: {told}", flush=True)
    check(told["refused"] + told["fsck"] + told["scrub"] > 0, f"40 flips and nothing was found: {told}")
    put(index(volume), saved)


def case_inline_bit_flip(suite, place):
    """Content that is in the index: a flipped bit is EIO, scrub and fsck tell, and no object is made of it."""
    volume = mfs.Volume(suite, "inline-flip", f"{place}/inline").format()
    mount = volume.mount("allow_other")
    data = mfs.noise("inline flip", 12_000)
    put(f"{mount.path}/small", data)
    put(f"{mount.path}/other", data[::-1])
    mount.kill()
    mfs.run(["umount", "-l", mount.path], ok=None)
    same(fsck_problems(suite, volume.dir), [], "before the flip")  # and the log is in the database
    whole = get(index(volume))
    at = whole.find(data[6000:6032])
    check(at > 0, "the content is not found in the index")
    flip(index(volume), at + 3)
    found, _ = scrub(suite, volume.dir)
    expect_one(found, "small", "damaged record")
    check(fsck_problems(suite, volume.dir), "fsck finds nothing")
    mount = volume.mount("allow_other", path=mount.path)
    raises(errno.EIO, get, f"{mount.path}/small")
    same(get(f"{mount.path}/other"), data[::-1], "the other file")
    suite.massfs("settle", mount.path)
    check(not os.path.exists(volume.object("small")) or get(volume.object("small")) == b"", "an object was made of it")
    put(f"{mount.path}/small", data)
    same(get(f"{mount.path}/small"), data, "written anew")
    mount.umount()
    states = [d["state"] for d in scrub(suite, volume.dir)[0]]
    check(len(states) == 1 and states[0] != "current", f"damaged after it was written anew: {states}")  # the version


def case_older_index(suite, place):
    """An index restored from a copy: the files as they were then, and fsck says what is newer."""
    volume, mnt, contents = filled(suite, place)
    saved = get(index(volume))
    mount = volume.mount("allow_other", path=mnt)
    put(f"{mnt}/f2", b"newer" * 8000)
    put(f"{mnt}/young", b"young" * 8000)
    os.unlink(f"{mnt}/f4")
    os.rename(f"{mnt}/f6", f"{mnt}/renamed")
    volume.settle(mount)
    mount.umount()
    put(index(volume), saved)
    problems = fsck_problems(suite, volume.dir)
    same([p for p in problems if "object" in p["what"] and "foreign" not in p["what"]], [], "objects that the old index misses")
    check(problems, "fsck finds an index clean that is older than the objects' keys")
    same(scrub(suite, volume.dir)[0], [], "scrub of an older index")
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    same(sorted(os.listdir(mnt)), sorted({n.split("/")[0] for n in contents}), "names")
    mount.umount()
    suite.massfs("fsck", "--repair", volume.dir)
    volume.fsck()
    for name, data in contents.items():
        same(get(volume.object(name)), data, f"{name} on show")
    check(not os.path.exists(volume.object("young")), "a file that the index does not know is on show")


def case_last_copy_is_the_view(suite, place):
    """A version is gone and its view is left: nothing imports it by itself; who names the file gets the bytes back."""
    volume, mnt = mfs.Volume(suite, "last", f"{place}/v").format(), f"{place}/m"
    os.mkdir(mnt)
    mount = volume.mount("allow_other,inline=0", path=mnt)
    put(f"{mnt}/f", b"precious")
    version = suite.massfs_json("info", f"{mnt}/f")["version"]
    mount.umount()
    paths = [os.path.join(where, version) for where, _, names in os.walk(f"{volume.dir}/.massfs/v") if version in names]
    same(len(paths), 1, "its version")
    os.unlink(paths[0])
    mount = volume.mount("allow_other", path=mnt)
    raises(errno.EIO, get, f"{mnt}/f")
    suite.massfs("import", mnt)
    raises(errno.EIO, get, f"{mnt}/f")
    suite.massfs("import", f"{mnt}/f")
    same(get(f"{mnt}/f"), b"precious", "content after an import of this file")
    mount.umount()


def case_view_was_tampered_with(suite, place):
    """objects/ is a view for people: what is done to its names does not change what the mount reads."""
    volume, mnt, contents = filled(suite, place)
    os.unlink(volume.object("f0"))
    os.unlink(volume.object("f2"))
    put(volume.object("f2"), b"foreign")
    shutil.rmtree(volume.object("d"))
    put(volume.object("d"), b"a file where a folder must be")
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    put(f"{mnt}/d/f1", b"new")
    put(f"{mnt}/f2", b"newer")
    same((get(f"{mnt}/d/f1"), get(f"{mnt}/f2")), (b"new", b"newer"), "content")
    mount.umount()


def case_read_only_directory(suite, place):
    volume, mnt, contents = filled(suite, place)
    run(["mount", "--bind", volume.dir, volume.dir])
    run(["mount", "-o", "remount,bind,ro", volume.dir])
    try:
        text = refuses(volume, mnt, [])
        check("read-only" in text.lower() or "EROFS" in text, f"the message does not say read-only: {text}")
    finally:
        run(["umount", volume.dir])
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def small_disk(place, megabytes):
    """A filesystem of this size, with hard links and user xattrs."""
    disk = f"{place}/disk"
    os.mkdir(disk)
    with open(f"{place}/image", "wb") as file:
        file.truncate(megabytes << 20)
    run(["mkfs.ext4", "-q", "-F", "-m", "0", f"{place}/image"])
    rc, text = run(["mount", "-o", "loop", f"{place}/image", disk], ok=None)
    if rc != 0:
        rc, _ = run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk], ok=None)
        try:
            os.setxattr(put(f"{disk}/probe"), "user.probe", b"")
            os.unlink(f"{disk}/probe")
        except OSError as error:
            raise Skip(f"neither a loop device ({text.strip()}) nor a tmpfs with user xattrs") from error
    return disk


def write_until_full(mnt, size, limit=400):
    """The errors of open, write, fsync and close are all the same: ENOSPC, told to the caller."""
    done = {}
    for number in range(limit):
        data = noise(number, size)
        path = f"{mnt}/full-{size}-{number}"
        fd = None
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
            if number % 2:
                os.fsync(fd)
            closing, fd = fd, None
            os.close(closing)
            done[path] = data
        except OSError as error:
            same(error.errno, errno.ENOSPC, "errno of a full disk")
            if fd is not None:
                try:
                    os.close(fd)
                except OSError as second:
                    same(second.errno, errno.ENOSPC, "errno of the close after it")
            return done
    raise mfs.Failure("the disk does not get full")


def case_full_disk(suite, place):
    disk = small_disk(place, 96)
    volume = mfs.Volume(suite, "full", f"{disk}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount("allow_other", path=f"{place}/m")
    put(f"{mount.path}/before", b"before" * 1000)
    os.mkdir(f"{mount.path}/d")
    for size in (9 << 20, 300_000, 5000):
        done = write_until_full(mount.path, size, 3000)
        for path, data in done.items():
            check(get(path) == data, f"content of {path}, acknowledged before the disk was full")
    same(get(f"{mount.path}/before"), b"before" * 1000, "content of an old file")
    check(mount.alive(), "the daemon died")
    check(os.statvfs(mount.path).f_bavail * os.statvfs(mount.path).f_frsize < 12 << 20, "statvfs does not say so")
    old = {n: get(f"{mount.path}/{n}") for n in ("before", "full-9437184-0")}
    try:  # an overwrite that fails leaves the old content
        put(f"{mount.path}/full-9437184-0", noise("new", 20 << 20))
    except OSError as error:
        same(error.errno, errno.ENOSPC, "errno")
    content = get(f"{mount.path}/full-9437184-0")
    check(content in (old["full-9437184-0"], b""), f"an overwrite that failed left {len(content)} bytes of neither content")
    mount.umount()
    run(["mount", "-o", "remount", disk], ok=None)
    volume.fsck()
    mount = volume.mount("allow_other", path=f"{place}/m")
    same(get(f"{mount.path}/before"), old["before"], "content after a remount")
    mount.umount()
    run(["umount", disk])


def case_full_disk_for_the_index(suite, place):
    """Somebody else fills the disk to the last byte while the volume is mounted."""
    disk = small_disk(place, 64)
    volume = mfs.Volume(suite, "index-full", f"{disk}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount("allow_other", path=f"{place}/m")
    for number in range(20):
        put(f"{mount.path}/f{number}", noise(number, 1000))
    fill = os.open(f"{disk}/filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fill, bytes(65536))
    except OSError:
        pass
    try:
        while True:
            os.write(fill, bytes(512))
    except OSError:
        pass
    made, errors = [], set()
    for number in range(3000):
        try:
            os.mkdir(f"{mount.path}/d{number}")
            made.append(f"d{number}")
            os.setxattr(f"{mount.path}/d{number}", "user.fill", b"x" * 3000)
        except OSError as error:
            errors.add(error.errno)
            if number > 100:
                break
    check(errors <= {errno.ENOSPC}, f"errors {[errno.errorcode[e] for e in errors]}")
    check(mount.alive(), "the daemon died")
    for number in range(20):
        check(get(f"{mount.path}/f{number}") == noise(number, 1000), "content while the disk is full")
    os.close(fill)
    os.unlink(f"{disk}/filler")
    put(f"{mount.path}/after", b"there is room again")
    mount.umount()
    volume.fsck()
    mount = volume.mount("allow_other", path=f"{place}/m")
    same(get(f"{mount.path}/after"), b"there is room again", "content")
    missing = [n for n in made if not os.path.isdir(f"{mount.path}/{n}")]
    same(missing, [], "directories that were acknowledged")
    mount.umount()
    run(["umount", disk])


def case_gc_before_a_key_is_looked_at(suite, place):
    """A rewrite died between its object and the record; the old content is inline, and its key waits for the reconciler."""
    with open(f"{suite.build}/CMakeCache.txt", encoding="utf-8") as file:
        if "MASSFS_CRASH_POINTS:BOOL=ON" not in file.read():
            raise Skip("a build without crash points")
    volume = mfs.Volume(suite, "gc-early", f"{place}/v").format()
    os.mkdir(f"{place}/m")
    mount = volume.mount("inline=16K", path=f"{place}/m", env={**suite.env, "MASSFS_CRASH_AT": "commit.stored:2"})
    put(f"{mount.path}/f", b"old")
    try:
        put(f"{mount.path}/f", noise(1, 95370))
    except OSError:
        pass
    mfs.wait_for(lambda: not mount.alive(), 20, "the crash point")
    mount.kill()
    env = {**suite.env, "MASSFS_TEST_GC_AGE": "0"}
    mount = volume.mount("inline=16K", path=mount.path, env=env)
    for _ in range(10):
        suite.massfs("gc", "--delete", mount.path, env=env)
        same(get(f"{mount.path}/f"), b"old", "content")
    volume.settle(mount)
    same(get(f"{mount.path}/f"), b"old", "content after settle --wait")
    mount.umount()
    same(get(volume.object("f")), b"old", "the object")
    volume.fsck()


def case_leftover_lock_and_temporary_files(suite, place):
    """What a machine that lost power leaves beside the index."""
    volume, mnt, contents = filled(suite, place)
    put(f"{volume.dir}/.massfs/tmp/left-by-a-crash", noise(1, 100000))
    put(f"{volume.dir}/.massfs/lock", b"999999\n")
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()
    suite.massfs("gc", "--delete", volume.dir)
    mount = volume.mount("allow_other", path=mnt)
    verify(mount, contents)
    mount.umount()


def case_close_reports_the_error(suite, place):
    """An object store that cannot be written under a running daemon: close says so, the old content stays."""
    volume, mnt, contents = filled(suite, place)
    mount = volume.mount("allow_other", path=mnt)
    contents["before"] = noise(7, 100_000)
    put(f"{mnt}/before", contents["before"])  # the folder of this mount's versions comes now, not while they are listed
    folders = [f"{volume.dir}/.massfs/tmp"]
    for where, names, _ in os.walk(f"{volume.dir}/.massfs/v"):
        folders += [where, *[f"{where}/{n}" for n in names]]
    if run(["chattr", "+i", *folders], ok=None)[0] != 0:
        run(["chattr", "-i", *folders], ok=None)
        raise Skip("chattr +i is not possible here")
    try:
        for size in (100_000, 8 << 20):  # content that fits the index needs no object
            raises((errno.EIO, errno.EPERM, errno.EACCES, errno.EROFS), put, f"{mnt}/f0", noise(1, size))
            check(get(f"{mnt}/f0") in (contents["f0"], b""), "content after the failed close")
        raises((errno.EIO, errno.EPERM, errno.EACCES, errno.EROFS), put, f"{mnt}/new", b"cannot be stored" * 4000)
    finally:
        run(["chattr", "-i", *folders])
    verify(mount, contents, but=("f0",))
    put(f"{mnt}/f0", b"now it can")
    same(get(f"{mnt}/f0"), b"now it can", "content")
    mount.umount()
    volume.fsck()


if __name__ == "__main__":
    run_free_cases("damage", __doc__, globals())
