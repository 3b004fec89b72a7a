#!/usr/bin/env python3
"""Programs that know nothing of massfs (rclone, s3cmd, boto3) on the bucket of a cluster's volume: after `settle --wait` they find the same
files, at their paths, byte for byte, in listings too; what they write is the next version of its path, or after `massfs import` a new
file; and nothing is lost by it."""
import hashlib
import os
import re
import subprocess
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from clients import PICTURES, clients
from mfs import check, get, noise, put, same, wait_for
from worlds import read_or_none, run_cases, stat_or_none

MIB = 1 << 20

# Names that a listing, a URL, a query or a shell may get wrong.
ODD = ("a b", " lead", "trail ", "plus+plus", "per%cent", "%41", "%2F", "%", "a&b=c;d", "<x>", "quo'te\"s", "end.", "end..", "...", ".hidden",
       "-dash", "~tilde", "star*?", "[x]{y}", "back\\slash", "#hash", "@at,comma:colon", "$dollar!", "|pipe`tick^", "(a)", "ünï", "日本語",
       "emoji😀", "nfd e\u0301", "x" * 255, "é" * 127)
CONTROL = ("tab\there", "new\nline", "del\x7f", "cr\rx")  # valid keys; s3cmd's own output mangles them
UNFIT = ("one\x01two", "esc\x1b", "\ufffe")  # not XML: with one such key s3cmd lists nothing. So these are no keys


def bare(name):
    return not any(ord(c) < 32 or ord(c) == 127 for c in name)


class Tools:
    """The clients of a world, and the volume as they see it."""

    def __init__(self, w):
        self.w = w
        self.suite = w.suite
        self.place = w.suite.path("clients")
        self.all = clients(self.place, w.cluster.servers.bucket, w.cluster.volume.prefix)
        self.count = 0

    def file(self, data):
        self.count += 1
        return put(f"{self.place}/file{self.count}", data)

    def put(self, client, key, data):
        client.put(self.file(data), key)

    def settle(self):
        self.suite.massfs("settle", "--wait", self.w.m[0].path)

    def import_(self, *args, mount=0, ok=(0,)):
        return self.suite.massfs("import", *args[:-1], f"{self.w.m[mount].path}/{args[-1]}", ok=ok)[1]

    def seen(self, path, data, what):
        """By every mount."""
        for m in self.w.m:
            wait_for(lambda m=m: read_or_none(f"{m.path}/{path}") == data, 5 * self.w.slow, f"{what}: {path} at {m.path}")

    def bytes_of(self, client, key):
        self.count += 1
        path = f"{self.place}/got{self.count}"
        client.fetch(key, path)
        return get(path)


def tools(w):
    if w.suite.plain:
        raise mfs.Skip("needs a bucket")
    if not hasattr(w, "tools"):
        w.tools = Tools(w)
    return w.tools


def tree(root):
    """{path: bytes} of all regular files."""
    found = {}
    for where, _, names in os.walk(root):
        for name in names:
            path = f"{where}/{name}"
            if os.path.isfile(path) and not os.path.islink(path):
                found[os.path.relpath(path, root)] = get(path)
    return found


def compare(got, want, what):
    missing, more = sorted(set(want) - set(got)), sorted(set(got) - set(want))
    check(not missing and not more, f"{what}: {len(missing)} missing {missing[:5]}, {len(more)} more {more[:5]}")
    other = [n for n in want if got[n] != want[n]]
    check(not other, f"{what}: other bytes, sizes or times: {other[:5]}")


def all_see(t, want, what):
    """Every client's listing, and every byte as every client fetches it."""
    for client in t.all:
        known = want if client.name != "s3cmd" else {n: d for n, d in want.items() if bare(n)}
        compare({n: s for n, s in client.keys() if n in known or client.name != "s3cmd" or bare(n)}, {n: len(d) for n, d in known.items()},
                f"{what}: {client.name}'s listing")
        t.count += 1
        path = f"{t.place}/tree{t.count}"
        os.mkdir(path)
        client.fetch_all(path)
        got = {n.translate(PICTURES) if client.name == "rclone" else n: d for n, d in tree(path).items()}
        got = {n: d for n, d in got.items() if client.name != "s3cmd" or n in known}
        compare(got, known, f"{what}: what {client.name} fetched")


def past(t, path):
    """The contents of the versions that are not the current one, the newest first, by restoring each; the current one is put back."""
    root = t.w.m[0].path
    entries = t.suite.massfs_json("versions", f"{root}/{path}")
    found, now = [], get(f"{root}/{path}")
    for e in entries:
        if not e["current"]:
            t.suite.massfs("restore", f"{root}/{path}@{e['version'].split('-')[0]}-{e['data']}.{e['ino']}")
            found.append(get(f"{root}/{path}"))
    if found:
        put(f"{root}/{path}", now)
    return found


def check_etag(client, key, data):
    """A multipart object's etag is the md5 of its parts' md5s; the parts are told by the server."""
    head = client.head(key)
    etag = head["ETag"].strip('"')
    if "-" not in etag:
        same(etag, hashlib.md5(data).hexdigest(), f"etag of {key}")
        return 1
    sums, at = b"", 0
    parts = int(etag.split("-")[1])
    for n in range(1, parts + 1):
        size = client.head(key, PartNumber=n)["ContentLength"]
        sums += hashlib.md5(data[at:at + size]).digest()
        at += size
    same(at, len(data), f"bytes of {key}'s parts")
    same(etag, f"{hashlib.md5(sums).hexdigest()}-{parts}", f"etag of {key}")
    return parts


def case_the_same_files_at_their_paths(w):
    t = tools(w)
    a, b = w.m[0].path, w.m[1].path
    os.mkdir(f"{a}/odd")
    os.mkdir(f"{a}/control")
    for n, name in enumerate((*ODD, *CONTROL)):
        put(f"{a}/{'odd' if bare(name) else 'control'}/{name}", b"" if n % 5 == 4 else noise(n, 100 + 7000 * (n % 4)))
    for name in UNFIT:
        put(f"{a}/odd/{name}", name.encode())
    for n, name in enumerate(ODD[:12]):
        os.makedirs(f"{a}/dirs/{name}/{name}")
        put(f"{a}/dirs/{name}/{name}/f", noise(n, 50))
    deep = "/".join(f"level{n}" for n in range(30))
    os.makedirs(f"{a}/{deep}")
    put(f"{a}/{deep}/bottom", b"deep")
    put(f"{a}/empty")
    os.mkdir(f"{a}/empty folder")
    big = bytearray(noise(1, 23 * MIB + 12345))
    put(f"{a}/big", bytes(big))
    put(f"{a}/big rewritten", noise(2, 12 * MIB))
    for n in range(30):
        put(f"{a}/small{n}", noise(n, 40 + n))
    os.link(f"{a}/small0", f"{a}/small0.link")
    os.symlink("small0", f"{a}/symlink")
    t.settle()
    # By the other mount: what was settled moves, goes, and changes in the middle.
    wait_for(lambda: stat_or_none(f"{b}/symlink") and len(os.listdir(b)) == len(os.listdir(a)), 5 * w.slow, "the files at the other mount")
    with open(f"{b}/big", "r+b") as file:
        for at in (0, 7 * MIB - 3, 23 * MIB):
            file.seek(at)
            file.write(b"patched")
            big[at:at + 7] = b"patched"
    put(f"{b}/big rewritten", noise(3, 9 * MIB))
    os.rename(f"{b}/dirs", f"{b}/moved +% dirs")
    os.rename(f"{b}/level0/level1", f"{b}/up")
    os.rename(f"{b}/odd/a b", f"{b}/odd/b a")
    os.rename(f"{b}/small1", f"{b}/small2")
    for n in range(10, 20):
        os.unlink(f"{b}/small{n}")
    os.truncate(f"{b}/small3", 0)
    os.truncate(f"{b}/empty", 5000)
    t.settle()
    want = tree(b)
    same(want["big"], bytes(big), "the patched file")
    del want["small0.link"]  # one object, at its first name
    for name in UNFIT:
        same(want.pop(f"odd/{name}"), name.encode(), "a file whose name can be no key")
    all_see(t, want, "settled")
    for client in t.all:
        if client.name == "boto3":
            check(check_etag(client, "big", bytes(big)) > 1, "the big file is one of parts")
            check_etag(client, "big rewritten", want["big rewritten"])
            for name in ("small5", "empty", "odd/plus+plus"):
                check_etag(client, name, want[name])
    for name in UNFIT:
        os.unlink(f"{a}/odd/{name}")
    # Times go along: a mirror of the tree has nothing to do, in either direction.
    rclone = t.all[0]
    text = rclone.call("rclone", "sync", "--dry-run", "--stats-one-line", "--stats", "0", "-v", b, rclone.at(""), "--exclude", "/.massfs/**",
                       "--exclude", "/small0.link", "--skip-links")
    done = subprocess.run(["rclone", "check", b, rclone.at(""), "--exclude", "/.massfs/**", "--exclude", "/small0.link", "--skip-links"],
                          env=rclone.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    same(done.returncode, 0, f"rclone check says {done.stderr.decode('utf-8', 'replace')[-1500:]}{text.decode('utf-8', 'replace')[-500:]}")


def case_an_overwrite_is_the_next_version(w):
    t = tools(w)
    root = w.dir("over")[0]
    big, theirs = noise(5, 11 * MIB), noise(6, 13 * MIB)
    for n, client in enumerate(t.all):
        first, second = f"ours for {client.name}".encode() * 3000, f"theirs of {client.name}".encode()
        files = (("f", first, second), ("inline", b"ours", second * 5000), ("big", big, theirs), ("none", first, b""))
        files = files if w.long else (files[n % 4], files[(n + 1) % 4])
        for name, ours, _ in files:
            put(f"{root}/{client.name} {name}", ours)
        t.settle()
        for name, ours, new in files:
            key = f"over/{client.name} {name}"
            ino, mode = os.stat(f"{root}/{client.name} {name}").st_ino, os.stat(f"{root}/{client.name} {name}").st_mode
            t.put(client, key, new)
            same(get(f"{root}/{client.name} {name}"), ours, "content before the import")
            text = t.import_(key, mount=1)
            check("1 imported" in text, f"{client.name}: import says {text}")
            t.seen(key, new, f"{client.name} after the import")
            st = os.stat(f"{root}/{client.name} {name}")
            same((st.st_ino, st.st_mode), (ino, mode), f"{client.name}: inode and mode")
            same(past(t, key), [ours], f"{client.name}: {key}: versions")
            t.settle()
            same(t.bytes_of(client, key), new, f"{client.name} finds what it wrote")
            text = t.import_(key)
            check("0 imported" in text, f"{client.name}: a second import says {text}")


def case_a_new_key_is_a_new_file(w):
    t = tools(w)
    root = w.dir("fresh")[0]
    want = {}
    for n, client in enumerate(t.all):
        names = [f"{client.name}/{x}" for x in (*ODD[n:-2:len(t.all)], "deep/er/est/f", "empty")]
        for k, name in enumerate(names):
            want[f"fresh/{name}"] = b"" if name.endswith("empty") else noise(100 * n + k, 300 + k)
            t.put(client, f"fresh/{name}", want[f"fresh/{name}"])
        want[f"fresh/{client.name}/big"] = noise(n, 17 * MIB)
        t.put(client, f"fresh/{client.name}/big", want[f"fresh/{client.name}/big"])
    check(not stat_or_none(f"{root}/rclone"), "it is there before the import")
    text = t.import_("fresh")
    check(f"{len(want)} imported" in text, f"import of {len(want)} new files says {text}")
    for m in w.m:
        wait_for(lambda m=m: len(tree(f"{m.path}/fresh")) == len(want), 5 * w.slow, f"the files at {m.path}")
        compare({f"fresh/{n}": d for n, d in tree(f"{m.path}/fresh").items()}, want, f"imported, at {m.path}")
    t.settle()
    for client in t.all:
        compare(dict(client.keys("fresh/")), {n: len(d) for n, d in want.items()}, f"{client.name}'s listing")
    for name in ("fresh/rclone/big", "fresh/rclone/a b", "fresh/s3cmd/plus+plus", "fresh/boto3/per%cent"):
        if name in want:
            for client in t.all:
                same(t.bytes_of(client, name), want[name], f"{name} by {client.name}")
    put(f"{root}/rclone/big", b"ours now")
    t.settle()
    same(t.bytes_of(t.all[0], "fresh/rclone/big"), b"ours now", "written over by massfs")
    same(past(t, "fresh/rclone/big"), [want["fresh/rclone/big"]], "what they wrote, as a version")


def case_a_delete_is_put_back_or_taken_over(w):
    t = tools(w)
    root = w.dir("gone")[0]
    for client in t.all:
        data = f"precious, of {client.name}".encode() * 1000
        for name in ("stays", "goes"):
            put(f"{root}/{client.name}-{name}", data)
        t.settle()
        for name in ("stays", "goes"):
            client.delete(f"gone/{client.name}-{name}")
            t.seen(f"gone/{client.name}-{name}", data, f"after {client.name}'s delete")
        t.import_(f"gone/{client.name}-stays")
        t.suite.massfs("settle", "--wait", f"{root}/{client.name}-stays")
        same(t.bytes_of(client, f"gone/{client.name}-stays"), data, "put back")
        text = t.import_("--deletes", f"gone/{client.name}-goes")
        check("1 removed" in text, f"import --deletes says {text}")
        for m in w.m:
            wait_for(lambda m=m: not stat_or_none(f"{m.path}/gone/{client.name}-goes"), 5 * w.slow, "the removal")
        t.suite.massfs("undelete", f"{root}/{client.name}-goes")
        t.seen(f"gone/{client.name}-goes", data, "undeleted")
        t.settle()
        same(t.bytes_of(client, f"gone/{client.name}-goes"), data, "there again for them")


def case_a_write_beside_one_of_ours(w):
    """A foreign write meets uncommitted, unsettled or newer content of ours: both are kept, and ours, which came last, is current."""
    t = tools(w)
    root = w.dir("beside")[0]
    sizes = (("small", b"first " * 10), ("mid", noise(1, 90000)), ("big", noise(2, 9 * MIB)))
    for n, client in enumerate(t.all):
        for name, first in sizes if w.long else (sizes[n % 3], sizes[(n + 1) % 3]):
            key, path = f"beside/{client.name}-{name}", f"{root}/{client.name}-{name}"
            put(path, first)
            t.settle()
            # Dirty in a mount.
            fd = os.open(path, os.O_RDWR)
            os.pwrite(fd, b"dirty", 10)
            theirs = f"their {name} while dirty".encode() * 500
            t.put(client, key, theirs)
            os.close(fd)
            ours = first[:10] + b"dirty" + first[15:]
            same(get(path), ours, f"{key}: after the close")
            t.import_(key)
            t.settle()
            contents = [get(path), *past(t, key)]
            for data, what in ((theirs, "what they wrote"), (ours, "what we wrote"), (first, "what was there first")):
                check(data in contents, f"{key}: {what} is lost; there are {[c[:30] for c in contents]}")
            t.seen(key, contents[0], "both mounts agree")
            t.settle()
            same(t.bytes_of(client, key), contents[0], f"{key}: by {client.name}")


def case_a_write_that_ours_replaces_before_the_import(w):
    """Rewritten by a mount that has not seen it; and where a rename puts a file: what they wrote is a version of its path."""
    t = tools(w)
    root = w.dir("under")[0]
    for client in t.all:
        for name, how in (("rewritten", "put"), ("renamed over", "rename"), ("new", "new")):
            key, path = f"under/{client.name} {name}", f"{root}/{client.name} {name}"
            first, theirs, ours = (f"{x} {key}".encode() * 2000 for x in ("first", "theirs", "ours"))
            if how != "new":
                put(path, first)
                t.settle()
            t.put(client, key, theirs)
            if how == "rename":
                put(f"{root}/other", ours)
                os.rename(f"{root}/other", path)
            else:
                put(path, ours)
            t.settle()
            t.import_(key)
            t.settle()
            contents = [get(path), *past(t, key)]
            for data, what in ((theirs, "theirs"), (ours, "ours"), *([(first, "the first")] if how != "new" else [])):
                check(data in contents, f"{key}: {what} is lost; there are {[c[:30] for c in contents]}")


def remove_wholly(bucket, key):
    """With its versions: a marker of it would hide what is below it from MinIO's listings, as the object did."""
    query = f"encoding-type=url&prefix={urllib.parse.quote(key, safe='-_.~')}&versions="
    for _, body in re.findall(r"<(Version|DeleteMarker)>(.*?)</\1>", bucket.request("GET", query=query).decode(), re.S):
        if urllib.parse.unquote_plus(re.search("<Key>(.*?)</Key>", body).group(1)) == key:
            bucket.request("DELETE", key, query="versionId=" + re.search("<VersionId>(.*?)</VersionId>", body).group(1))


def case_keys_that_cannot_be_paths(w):
    """A key where a folder is, one below a file, and one that ends in a slash: told, kept, in nobody's way."""
    t = tools(w)
    root = w.dir("odds")[0]
    os.mkdir(f"{root}/folder")
    put(f"{root}/folder/f", b"inside")
    put(f"{root}/file", b"a file" * 9999)
    t.settle()
    bucket = w.cluster.servers.bucket
    client = t.all[-1]
    for key in ("odds/folder", "odds/file/below", "odds/slash/"):
        bucket.request("PUT", f"{client.prefix}{key}", body=b"theirs at " + key.encode())
    text = t.import_("odds", ok=None)
    check("Traceback" not in text and text.strip(), f"import says {text}")
    t.settle()
    same(tree(root), {"folder/f": b"inside", "file": b"a file" * 9999}, "the files")
    same(sorted(os.listdir(root))[:2], ["file", "folder"], "names")
    for key in ("odds/folder", "odds/file/below", "odds/slash/"):
        same(bucket.get(f"{client.prefix}{key}"), b"theirs at " + key.encode(), f"{key} is kept")
        remove_wholly(bucket, f"{client.prefix}{key}")
    same(sorted(k for k in bucket.keys(client.prefix + "odds/")), [client.prefix + "odds/file", client.prefix + "odds/folder/f"], "listed again")
    for key, data in (("odds/file", b"a file" * 9999), ("odds/folder/f", b"inside")):
        same(bucket.get(f"{client.prefix}{key}"), data, key)


def case_their_copies_of_our_objects(w):
    """Copied on the server's side, what massfs noted goes along: elsewhere it is theirs, onto itself it changes nothing."""
    t = tools(w)
    root = w.dir("copies")[0]
    for client in t.all:
        data = f"copied by {client.name}".encode() * 3000
        put(f"{root}/{client.name}", data)
        t.settle()
        client.copy(f"copies/{client.name}", f"copies/{client.name}.copy")
        check("1 imported" in t.import_(f"copies/{client.name}.copy"), f"{client.name}: the copy is imported")
        t.seen(f"copies/{client.name}.copy", data, "the copy")
        check(os.stat(f"{root}/{client.name}.copy").st_ino != os.stat(f"{root}/{client.name}").st_ino, "one inode")
        put(f"{root}/{client.name}", b"changed")
        same(get(f"{root}/{client.name}.copy"), data, "the copy, after a change of what it was made of")
        t.settle()
        same(t.bytes_of(client, f"copies/{client.name}.copy"), data, "the copy, for them")
        same(t.bytes_of(client, f"copies/{client.name}"), b"changed", "the file, for them")


def case_a_mirror_of_a_folder(w):
    """rclone sync of a local folder onto one of the volume: new, changed and deleted files, in one go."""
    t = tools(w)
    root = w.dir("mirror")[0]
    rclone = t.all[0]
    local = f"{t.place}/local"
    want = {}
    for n in range(40):
        where = f"d{n % 4}/e{n % 3}"
        for base in (root, local):
            os.makedirs(f"{base}/{where}", exist_ok=True)
        put(f"{root}/{where}/f{n}", noise(n, 1000 * n))
        if n % 5:
            want[f"{where}/f{n}"] = noise(n + (1000 if n % 7 == 0 else 0), 1000 * n)
        want[f"{where}/new{n}"] = noise(n, 50)
    for name, data in want.items():
        put(f"{local}/{name}", data)
    t.settle()
    rclone.sync(local, "mirror")
    t.import_("--deletes", "mirror")
    for m in w.m:
        wait_for(lambda m=m: tree(f"{m.path}/mirror") == want, 10 * w.slow, f"the mirror at {m.path}")
    t.settle()
    compare(dict(rclone.keys("mirror/")), {f"mirror/{n}": len(d) for n, d in want.items()}, "as they list it")
    same(past(t, "mirror/d3/e1/f7"), [noise(7, 7000)], "what a sync replaced")
    t.suite.massfs("undelete", f"{root}/d0/e0/f0")
    same(get(f"{root}/d0/e0/f0"), noise(0, 0), "what a sync deleted")


if __name__ == "__main__":
    mfs.main("foreign", __doc__, lambda suite: run_cases(suite, globals()))
