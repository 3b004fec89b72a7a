#!/usr/bin/env python3
"""Tags and searches on a mount: massfs tag, massfs find, what programs do with user.* attributes, who sees what."""
import base64
import errno
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, get, put, run_cases, same

LIST = "user.xdg.tags"


def massfs(case, *args, code=0, user=None, stdin=None):
    """A call of massfs in the case's directory; its output. `code` is what it must end with."""
    command = [*case.suite.command(), *args]
    if user:
        command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *command]
    env = {k: v for k, v in os.environ.items() if not (user and k.endswith("_OPTIONS"))}
    done = subprocess.run(command, input=stdin if stdin is not None else b"", capture_output=True, timeout=120, check=False, env=env,
                          cwd=case.path())
    same(done.returncode, code, f"exit code of massfs {args}: {done.stderr.decode(errors='replace')}")
    return done.stdout if code == 0 else done.stderr


def find(case, *args, **kwargs):
    """The files that are found, below the case's directory."""
    found = massfs(case, "find", "--print0", ".", *args, **kwargs).split(b"\0")[:-1]
    return sorted(os.fsdecode(f)[2:] for f in found)


def tags_of(path):
    """{name: value} by getxattr; a bare tag has the value None."""
    tags = {}
    for name in os.listxattr(path):
        if name == LIST:
            tags.update({t.strip(): None for t in os.fsdecode(os.getxattr(path, name)).split(",") if t.strip()})
        elif name.startswith("user."):
            tags[name[5:]] = os.getxattr(path, name)
    return tags


def make_tree(case):
    for folder in ("a", "a/b", "c"):
        os.mkdir(case.path(folder))
    for n in range(30):
        path = case.path(("a", "a/b", "c")[n % 3], f"f{n}")
        put(path, b"x" * (n * 100))
        os.setxattr(path, "user.n", str(n).encode())
        if n % 2:
            os.setxattr(path, LIST, b"odd, third" if n % 3 == 0 else b"odd")
    os.setxattr(case.path("a"), "user.n", b"dir")


def every_file(case):
    for folder, folders, files in os.walk(case.path()):
        for name in (*folders, *files):
            yield os.path.relpath(os.path.join(folder, name), case.path())


def case_find_is_a_look_at_every_file(case):
    make_tree(case)
    tests = {
        "odd": lambda p, t, s: "odd" in t,
        "not odd": lambda p, t, s: "odd" not in t,
        "odd and third": lambda p, t, s: "odd" in t and "third" in t,
        "n = 7 or n = 8": lambda p, t, s: t.get("n") in (b"7", b"8"),
        "n >= 9 and n < 12": lambda p, t, s: t.get("n", b"").isdigit() and 9 <= int(t["n"]) < 12,
        "n != 7": lambda p, t, s: "n" in t and t["n"] != b"7",
        "n ~ '1?'": lambda p, t, s: fnmatch.fnmatchcase(t.get("n", b"").decode(), "1?"),
        "size > 2K and type = f": lambda p, t, s: os.path.isfile(p) and s.st_size > 2048,
        "name ~ 'f2*' odd": lambda p, t, s: os.path.basename(p).startswith("f2") and "odd" in t,
        "path ~ '*/b/*'": lambda p, t, s: "/b/" in p,
        "type = dir": lambda p, t, s: os.path.isdir(p),
        "n > 25 or (third and not size > 1K)": lambda p, t, s: (t.get("n", b"").isdigit() and int(t["n"]) > 25) or
                                                               ("third" in t and s.st_size <= 1024),
        "owner = 0 mtime > -1h n = 3": lambda p, t, s: t.get("n") == b"3",
        "mtime < -1h": lambda p, t, s: False,
    }
    for text, want in tests.items():
        wanted = sorted(p for p in every_file(case)
                        if want(case.path(p), tags_of(case.path(p)), os.lstat(case.path(p))))
        found = [f for f in find(case, text) if f]
        if "type" in text or "not odd" == text or "path" in text or "owner" in text:
            found = [f for f in found if f != "."]
        same(found, wanted, text)
        same(int(massfs(case, "find", "--count", case.path(), text)), len(find(case, text)), f"count of {text}")
    case.remount()
    same(len(find(case, "odd")), 15, "after a remount")
    same(int(massfs(case, "find", *["--count"] * 16, ".", "odd")), 15, "as many options as there may be")


def case_pages_orders_and_plans(case):
    make_tree(case)
    pages, after = [], "0"
    while True:
        lines = massfs(case, "find", "--json", "--limit=4", f"--after={after}", ".", "n").splitlines()
        found = [json.loads(line) for line in lines]
        after = str(found.pop()["next"])
        pages += [f["ino"] for f in found]
        if after == "0":
            break
    same(pages, sorted(set(pages)), "inodes over pages, in order")
    same(len(pages), 31, "files of all pages")
    sizes = [json.loads(line)["size"] for line in massfs(case, "find", "--json", "--order=size", "--reverse", ".", "odd").splitlines()]
    same(sizes, sorted(sizes, reverse=True), "by size")
    names = massfs(case, "find", "--order=name", "--limit=3", "a", "n type=f").decode().splitlines()
    same(names, ["a/f0", "a/b/f1", "a/b/f10"], "by name, limited")
    done = subprocess.run([*case.suite.command(), "find", "--explain", ".", "n = 7 and size < 1M"], cwd=case.path(), capture_output=True,
                          timeout=60, check=True)
    rows = int(re.search(rb"rows read: (\d+), queries: [1-3], hits: 1\n", done.stderr)[1])
    check(b'index of tag "n"="7"' in done.stderr and rows <= len(CASES), done.stderr.decode())  # each case has one
    done = subprocess.run([*case.suite.command(), "find", "--explain", ".", "name = f7"], cwd=case.path(), capture_output=True,
                          timeout=60, check=True)
    check(b"walk" in done.stderr, done.stderr.decode())
    check(b"no part" in massfs(case, "find", "--indexed-only", ".", "name = f7", code=1), "refused without an index")
    for text, column in (("n = 7 and (", 12), ("n ! 7", 3), ("", 1)):
        said = massfs(case, "find", ".", text, code=2).decode()
        check(not text or f"column {column}:" in said, f"{text}: {said}")


def case_tag_adds_and_takes_away(case):
    path = case.path("f")
    put(path, b"x")
    massfs(case, "tag", "add", "draft", path)
    massfs(case, "tag", "add", "-t", "year=2026", "-t", "signed", "-t", "draft", path)
    same(tags_of(path), {"draft": None, "signed": None, "year": b"2026"}, "tags")
    before = os.stat(path)
    time.sleep(0.02)
    massfs(case, "tag", "rm", "-t", "draft", "-t", "year", path)
    after = os.stat(path)
    same(tags_of(path), {"signed": None}, "tags after rm")
    check(after.st_ctime_ns > before.st_ctime_ns and after.st_mtime_ns == before.st_mtime_ns, "ctime follows, mtime does not")
    check(b"no such tag" in massfs(case, "tag", "rm", "draft", path, code=1), "removing what is not there")
    massfs(case, "tag", "rm", "signed", path)
    same(os.listxattr(path), [], "nothing is left over")
    massfs(case, "tag", "add", "a,b", path, code=1)
    massfs(case, "tag", "add", "=x", path, code=1)
    massfs(case, "tag", "add", "x", case.path("nothing"), code=1)
    massfs(case, "tag", "frobnicate", path, code=2)
    massfs(case, "tag", "add", path, code=2)
    listed = json.loads(massfs(case, "tag", "ls", "--json", path))
    same(listed["tags"], [], "tag ls --json")


def case_tag_takes_trees_and_lists(case):
    make_tree(case)
    massfs(case, "tag", "add", "-r", "all", "a")
    same(len(find(case, "all")), 22, "a and what is below it")
    names = b"\0".join(os.fsencode(f"c/f{n}") for n in range(2, 30, 3))
    massfs(case, "tag", "add", "-0", "--files-from=-", "kind=x=y", stdin=names)
    same(len(find(case, "kind = 'x=y'")), 10, "those of the list")
    massfs(case, "tag", "rm", "--recursive", "all", "a")
    same(find(case, "all"), [], "taken away again")


def case_odd_names_and_values(case):
    values = {"new\nline": b"a\nb", 'quo"te': b'"\\', "k\xe4se": b"\xff\xfe\x00\x01", "long": b"v" * 65536, "sp ace": b" ", "sla/sh": b"x/y"}
    path = case.path("odd\nname")
    put(path, b"x")
    for name, value in values.items():
        os.setxattr(path, f"user.{name}", value)
    for name in values:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        same(find(case, f'"{quoted}"'), ["odd\nname"], f"presence of {name!r}")
    same(find(case, f"long = {'v' * 10000}"), [], "a prefix is not the value")
    same(find(case, "long ~ 'v*v'"), ["odd\nname"], "a pattern over 64 KiB")
    same(find(case, "'sla/sh' = x/y"), ["odd\nname"], "slashes")
    same(find(case, r"'new\nline' = 'a\nb'"), ["odd\nname"], "newlines")
    listed = json.loads(massfs(case, "tag", "ls", "--json", path))
    decoded = {}
    for tag in listed["tags"]:
        name = os.fsencode(tag["name"]) if "name" in tag else base64.b64decode(tag["name_base64"])
        decoded[name] = tag["value"].encode() if "value" in tag else base64.b64decode(tag["value_base64"])
    same(decoded, {n.encode("utf-8"): v for n, v in values.items()}, "tag ls --json")


def case_only_what_the_caller_may_see(case):
    make_tree(case)
    os.chmod(case.path(), 0o755)
    os.chmod(case.path("a/b"), 0o700)
    os.chmod(case.path("c"), 0o711)
    same(len(find(case, "n")), 31, "root sees all")
    mine = find(case, "n", user=1000)
    same(mine, sorted(["a"] + [f"a/f{n}" for n in range(0, 30, 3)]), "a user sees what ls shows")
    same(int(massfs(case, "find", "--count", ".", "n", user=1000)), 11, "the count is of what is seen")
    os.chmod(case.path("a"), 0o700)
    same([f for f in find(case, "n", user=1000) if f.startswith("a/")], [], "nothing below a closed directory")
    os.chmod(case.path("a"), 0o755)
    check(b"Permission denied" in massfs(case, "tag", "add", "x", "a/f0", code=1, user=1000), "no write permission, no tag")
    same(tags_of(case.path("a/f0")), {"n": b"0"}, "unchanged")
    massfs(case, "tag", "ls", "c/f2", user=1000)  # search permission is enough for a path that is known
    massfs(case, "tag", "ls", "a/b/f1", user=1000, code=1)


def case_tags_follow_the_file(case):
    make_tree(case)
    os.rename(case.path("a/b"), case.path("moved"))
    same(find(case, "n = 1"), ["moved/f1"], "after a rename of the directory")
    os.rename(case.path("moved/f1"), case.path("c/renamed"))
    same(find(case, "n = 1"), ["c/renamed"], "after a rename")
    os.link(case.path("c/renamed"), case.path("a/hard"))
    same(find(case, "n = 1"), ["c/renamed"], "a hard link is one file")
    same([os.fsdecode(f) for f in massfs(case, "find", "--print0", "a", "n = 1").split(b"\0")[:-1]], ["a/hard"], "found by the name below a")
    os.unlink(case.path("c/renamed"))
    same(find(case, "n = 1"), ["a/hard"], "under the name that is left")
    os.unlink(case.path("a/hard"))
    same(find(case, "n = 1"), [], "removed")
    massfs(case, "undelete", case.path("a/hard"))
    same(len(find(case, "n = 1")), 1, "undeleted with its tags")


def case_programs_carry_them(case):
    os.mkdir(case.path("from"))
    path = case.path("from/f")
    put(path, b"content")
    want = {"user.year": b"2026", LIST: b"draft,signed", "user.raw": b"\x00\xff"}
    for name, value in want.items():
        os.setxattr(path, name, value)
    subprocess.run(["cp", "-a", case.path("from"), case.path("cp")], check=True, timeout=60)
    subprocess.run(["rsync", "-aHAX", case.path("from/"), case.path("rsync/")], check=True, timeout=60)
    subprocess.run(["tar", "--xattrs", "--xattrs-include=user.*", "-C", case.path("from"), "-cf", case.path("t.tar"), "f"], check=True, timeout=60)
    os.mkdir(case.path("tar"))
    subprocess.run(["tar", "--xattrs", "--xattrs-include=user.*", "-C", case.path("tar"), "-xf", case.path("t.tar")], check=True, timeout=60)
    shutil.copy2(path, case.path("python"))
    for copy in ("cp/f", "rsync/f", "tar/f", "python"):
        same({n: os.getxattr(case.path(copy), n) for n in os.listxattr(case.path(copy)) if n.startswith("user.")}, want, copy)
    same(find(case, "year = 2026 and draft and signed"), ["cp/f", "from/f", "python", "rsync/f", "tar/f"], "all are found")


def names(path):
    return sorted(os.listdir(path))


def case_the_virtual_tree(case):
    """Every directory of it against massfs find; what the links lead to; what cannot be done."""
    tree = os.path.join(case.mount.path, ".massfs")
    for folder in ("vt", "vt/b"):
        os.mkdir(case.path(folder))
    for n in range(6):
        path = case.path(("vt", "vt/b")[n % 2], f"file{n // 2}")
        put(path, b"content %d" % n)
        os.setxattr(path, "user.vt year", (b"2025", b"2026")[n % 2])
        os.setxattr(path, LIST, b"vtbare" if n < 3 else b"vtother")
    odd = case.path("vt/sla%sh")
    put(odd, b"odd")
    os.setxattr(odd, "user.vt/path", b"x/y%z")
    check(".massfs" not in os.listdir(case.mount.path), "it is hidden from listings")
    same(names(tree), ["query", "tags"], "/.massfs")
    check({"vt year", "vtbare", "vtother", "vt%2Fpath"} <= set(names(f"{tree}/tags")), f"tags: {names(f'{tree}/tags')}")
    same(names(f"{tree}/query"), [], "queries are not remembered")
    same(names(f"{tree}/tags/vt year/2025"), ["file0", "file1", "file2"], "one value")
    same([n for n in names(f"{tree}/tags/vt year") if n in ("2025", "2026")], ["2025", "2026"], "the values")
    both = [n for n in names(f"{tree}/tags/vt year") if n.startswith("file")]
    check(len(both) == 6 and all("~" in n for n in both), f"names of several files are made distinct: {both}")
    for name in both:
        with open(f"{tree}/tags/vt year/{name}", "rb") as file:
            check(file.read().startswith(b"content"), name)
    same(names(f"{tree}/tags/vt year/2026/vtbare"), ["file0"], "a further tag is an and")
    same(get(f"{tree}/tags/vtbare/vt year/2026/file0"), b"content 1", "in any order")
    same(names(f"{tree}/tags/vt%2Fpath/x%2Fy%25z"), ["sla%sh"], "slashes and percent signs")
    same(get(f"{tree}/tags/vt%2Fpath/sla%sh"), b"odd", "a file's name with a percent sign of its own")
    same(names(f"{tree}/query/tag:\"vt year\" = 2025 and not vtbare"), ["file2"], "a query")
    same(names(f"{tree}/tags/never-used"), [], "a tag that nobody has is an empty directory")
    for path, error in ((f"{tree}/nothing", errno.ENOENT), (f"{tree}/query/a = (", errno.EINVAL), (f"{tree}/tags/vtbare/%zz", errno.ENOENT)):
        mfs.raises(error, os.stat, path)
    for call in ((os.mkdir, f"{tree}/query/a/x"), (os.unlink, f"{tree}/tags/vtbare/file1"), (os.rmdir, tree), (os.rename, tree, case.path("q")),
                 (os.rename, case.path("vt/file0"), f"{tree}/tags/x"), (os.chmod, tree, 0o777), (os.setxattr, tree, "user.x", b"1"),
                 (os.symlink, "x", f"{tree}/x"), (os.link, case.path("vt/file0"), f"{tree}/x")):
        mfs.raises((errno.EPERM, errno.EXDEV, errno.EISDIR), *call)  # any name but a file is a directory there
    same(get(case.path("vt/file0")), b"content 0", "nothing happened to the files")
    os.rename(case.path("vt/file0"), case.path("vt/renamed"))
    same(names(f"{tree}/tags/vt year/2025"), ["file1", "file2", "renamed"], "a rename is seen at once")
    os.chmod(case.path("vt/b"), 0o700)
    done = subprocess.run(["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "ls", f"{tree}/tags/vt year", f"{tree}/tags/vt year/2026"],
                          capture_output=True, timeout=60, check=True)
    check(b"renamed" in done.stdout and b"file0" not in done.stdout and b"2026\n" not in done.stdout.split(b"/2026:")[0].split(b"\n", 1)[1],
          f"only what the caller may see: {done.stdout.decode()}")


def case_on_a_volume_that_is_not_mounted(case):
    put(case.path("f"), b"x")
    massfs(case, "tag", "add", "offline", "f")
    folder, name = os.path.relpath(case.path(), case.mount.path), "f"
    case.mount.umount()
    found = subprocess.run([*case.suite.command(), "find", f"--volume={case.volume.dir}", folder, "offline"], capture_output=True, timeout=60,
                           check=True).stdout.decode().split()
    same(found, [f"{folder}/{name}"], "found in the volume")
    case.runner.mount = case.volume.mount(case.runner.opts)



def case_big_attributes_make_short_pages(case):
    def pages(size, name):
        os.mkdir(case.path(name))
        for n in range(150):
            path = case.path(name, f"f{n}")
            put(path)
            os.setxattr(path, f"user.{name}", b"%03d" % n)
            os.setxattr(path, "user.filler", b"x" * size)
        done = subprocess.run([*case.suite.command(), "find", "--explain", name, name], cwd=case.path(), capture_output=True, timeout=120, check=True)
        same(done.stdout.decode().split(), [f"{name}/f{n}" for n in range(150)], f"all files of {name}")
        return int(re.search(rb"rows read: 150, queries: (\d+), hits: 150\n", done.stderr)[1])

    same((pages(10, "small"), pages(65000, "big") > 2), (2, True), "a short page, and the rest; with big attributes more")
    check(pages(50, "middle") == 2, "as they are small again")


def case_recorded_by_itself(case):
    """The type of the content and its hash: after the settle, found again, and not those of older content."""
    png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
    text = b"A line of text as there are many.\n"
    files = {"inline.png": (png, "image/png"), "inline.txt": (text, "text/plain"), "whole.txt": (text * 5000, "text/plain"),
             "streamed.pdf": (b"%PDF-1.4\n" + bytes(6 << 20), "application/pdf")}
    for name, (content, _) in files.items():
        put(case.path(name), content)
    put(case.path("same.png"), png)
    put(case.path("empty"), b"")
    massfs(case, "settle", "--wait", ".")

    def info(name):
        return json.loads(massfs(case, "info", "--json", name))

    hashes = {name: info(name)["hash"] for name in files}
    same({name: info(name)["mime"] for name in files}, {name: mime for name, (_, mime) in files.items()}, "types")
    same(len(set(hashes.values())), len(files), "a hash each")
    for name, value in hashes.items():
        found = [name] if name != "inline.png" else [name, "same.png"]
        same(find(case, f"hash = {value}"), found, f"by the hash of {name}")
    same(find(case, "mime ~ 'image/*'"), ["inline.png", "same.png"], "by type")
    check(b"hash:      " in massfs(case, "info", "inline.png") and b"mime:      image/png" in massfs(case, "info", "inline.png"), "info shows both")
    same([info("empty").get("mime"), info("empty").get("hash")], [None, None], "of nothing")
    os.rename(case.path("same.png"), case.path("moved.png"))
    case.remount()
    massfs(case, "settle", "--wait", ".")
    same([info("moved.png")["hash"], info("moved.png")["mime"]], [hashes["inline.png"], "image/png"], "a move and a remount keep them")
    with open(case.path("streamed.pdf"), "r+b") as file:
        file.write(b"GIF89a\x01\x00\x01\x00")
    same([info("streamed.pdf").get("mime"), info("streamed.pdf").get("hash")], [None, None], "not those of what was before")
    put(case.path("inline.png"), text)
    os.truncate(case.path("whole.txt"), 100)
    same(info("inline.png").get("mime"), None, "written anew")
    check(info("inline.png")["hash"] == hashes["inline.txt"], "equal bytes, equal hash")
    check(info("whole.txt").get("hash") != hashes["whole.txt"], "truncated")
    massfs(case, "settle", "--wait", ".")
    same([info(name)["mime"] for name in ("streamed.pdf", "inline.png", "whole.txt")], ["image/gif", "text/plain", "text/plain"], "types of what is there now")
    check(info("streamed.pdf").get("hash") != hashes["streamed.pdf"], "a new hash; none where S3 put parts together")
    same(find(case, "mime ~ 'image/*'"), ["moved.png", "streamed.pdf"], "by type, after changes")


CASES = [name for name in globals() if name.startswith("case_")]

if __name__ == "__main__":
    run_cases("tags", __doc__, globals())
