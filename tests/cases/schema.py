#!/usr/bin/env python3
"""Storage rules on a mount: massfs schema, what is refused and what is left as it was, massfs failures."""
import errno
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mfs import check, get, put, raises, run_cases, same, wait_for


def massfs(case, *args, code=0, user=None):
    command = [*case.suite.command(), *args]
    if user:
        command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *command]
    env = {k: v for k, v in os.environ.items() if not (user and k.endswith("_OPTIONS"))}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, env=env, cwd=case.path())
    same(done.returncode, code, f"exit code of massfs {args}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode() if code == 0 else done.stderr.decode()


def failures(case):
    """Those of files below the case's directory: (operation, last part of the path)."""
    lines = [json.loads(line) for line in massfs(case, "failures", "--json", case.mount.path).splitlines()]
    below = os.path.relpath(case.path(), case.mount.path) + "/"
    return [f for f in lines if f.get("path", "").startswith(below)]


def told(case):
    return [(f["operation"], os.path.basename(f["path"])) for f in failures(case)]


def case_names(case):
    os.mkdir(case.path("d"))
    os.mkdir(case.path("d/sub"))
    put(case.path("d/before.doc"), b"1")
    put(case.path("outside"), b"2")
    massfs(case, "schema", "set", "--name=*.txt", "--name=*.tif", "d")
    put(case.path("d/a.txt"), b"a")
    put(case.path("d/sub/b.tif"), b"b")
    os.mkdir(case.path("d/any name"))
    for call in ((put, case.path("d/a.doc"), b"x"), (put, case.path("d/sub/x"), b"x"), (os.symlink, "x", case.path("d/link")),
                 (os.link, case.path("outside"), case.path("d/hard")), (os.rename, case.path("outside"), case.path("d/outside")),
                 (os.rename, case.path("d/a.txt"), case.path("d/any name/a"))):
        raises(errno.EPERM, *call)
    same(sorted(os.listdir(case.path("d"))), ["a.txt", "any name", "before.doc", "sub"], "nothing came")
    same([get(case.path("outside")), get(case.path("d/a.txt"))], [b"2", b"a"], "all is as it was")
    same(told(case), [("create", "a.doc"), ("create", "x"), ("create", "link"), ("link", "hard"), ("rename", "outside"), ("rename", "a")],
         "failures")
    one = failures(case)[0]
    same([one["uid"], one["user"]], [os.getuid(), "root"], "who")
    check(one["host"] == os.uname().nodename and "pattern" in one["reason"], f"where and why: {one}")
    check("a.doc" in massfs(case, "failures", case.mount.path), "as lines")
    put(case.path("d/.rsynced.txt.Ab12Cd"), b"r")
    os.rename(case.path("d/.rsynced.txt.Ab12Cd"), case.path("d/rsynced.txt"))
    put(case.path("d/late.doc.part"), b"r")
    raises(errno.EPERM, os.rename, case.path("d/late.doc.part"), case.path("d/late.doc"))
    os.mkdir(case.path("from"))
    put(case.path("from/r.txt"), b"r")
    subprocess.run(["rsync", "-a", case.path("from/"), case.path("d/")], check=True, timeout=60)
    same(get(case.path("d/r.txt")), b"r", "rsync")
    found = subprocess.run([*case.suite.command(), "schema", "check", "d"], cwd=case.path(), capture_output=True, timeout=60, check=False)
    same(found.returncode, 1, "check finds what was there before")
    lines = found.stdout.decode().splitlines()
    check(len(lines) == 2 and any("before.doc" in x for x in lines) and any("late.doc.part" in x for x in lines), found.stdout.decode())


def case_inherited_and_replaced(case):
    os.makedirs(case.path("d/e/f"))
    massfs(case, "schema", "set", "--name=*.a", "d")
    massfs(case, "schema", "set", "--name=*.b", "d/e")
    put(case.path("d/x.a"), b"")
    put(case.path("d/e/f/x.b"), b"")
    raises(errno.EPERM, put, case.path("d/e/f/x.a"), b"")
    shown = json.loads(massfs(case, "schema", "show", "--json", "d/e/f"))
    check(shown["from"].endswith("d/e") and shown["rules"] == {"names": ["*.b"]}, f"show: {shown}")
    os.rename(case.path("d/e/f"), case.path("d/f"))
    put(case.path("d/f/y.a"), b"")
    raises(errno.EPERM, put, case.path("d/f/y.b"), b"")
    case.remount()
    raises(errno.EPERM, put, case.path("d/f/y.b"), b"")
    massfs(case, "schema", "unset", "d")
    put(case.path("d/f/y.b"), b"")
    same(massfs(case, "schema", "show", "d"), "no rules\n", "unset")
    check("no rules of its own" in massfs(case, "schema", "unset", "d", code=1), "unset again")


def case_tags_are_given(case):
    os.mkdir(case.path("d"))
    massfs(case, "schema", "set", "--tag=schematag=p 1", "--tag=schemabare", "d")
    put(case.path("d/f"), b"x")
    os.mkdir(case.path("d/sub"))
    put(case.path("d/sub/g"), b"x")
    os.symlink("f", case.path("d/link"))
    for name in ("f", "sub", "sub/g"):
        path = case.path("d/" + name)
        same([os.getxattr(path, "user.schematag"), os.getxattr(path, "user.xdg.tags")], [b"p 1", b"schemabare"], name)
    found = massfs(case, "find", ".", "schemabare and schematag = 'p 1'").splitlines()
    same(sorted(found), ["./d/f", "./d/sub", "./d/sub/g"] if found[0].startswith("./") else ["d/f", "d/sub", "d/sub/g"], "found")


def case_sizes(case):
    os.mkdir(case.path("d"))
    put(case.path("d/old"), b"old content")
    put(case.path("big"), b"b" * 300000)
    massfs(case, "schema", "set", "--max-size=100K", "d")
    put(case.path("d/fits"), b"f" * 102400)
    raises(errno.EFBIG, put, case.path("d/new"), b"n" * 102401)
    same(os.stat(case.path("d/new")).st_size, 0, "made, and nothing is in it")
    fd = os.open(case.path("d/old"), os.O_RDWR)
    os.write(fd, b"NEW")
    raises(errno.EFBIG, os.pwrite, fd, b"x", 102400)
    raises(errno.EFBIG, os.close, fd)
    same(get(case.path("d/old")), b"old content", "the earlier state stays")
    raises(errno.EFBIG, os.truncate, case.path("d/fits"), 102401)
    done = subprocess.run(["cp", case.path("big"), case.path("d/copy")], capture_output=True, timeout=60, check=False)
    check(done.returncode == 1 and b"File too large" in done.stderr, f"cp: {done}")
    done = subprocess.run(["cp", case.path("d/fits"), case.path("d/copy2")], capture_output=True, timeout=60, check=False)
    same([done.returncode, len(get(case.path("d/copy2")))], [0, 102400], "a copy that fits")
    same(sorted(set(told(case))), [("write", "copy"), ("write", "fits"), ("write", "new"), ("write", "old")], "failures")
    case.remount()
    same([get(case.path("d/old")), len(get(case.path("d/fits")))], [b"old content", 102400], "after a remount")


def case_what_is_no_rule(case):
    os.mkdir(case.path("d"))
    put(case.path("f"), b"")
    for text in (b"", b"{", b"[]", b'{"name": []}', b'{"names": "x"}', b'{"names": ["a/b"]}', b'{"max_size": 0}', b'{"max_size": -1}',
                 b'{"tags": {"": "x"}}', b'{"tags": {"a,b": null}}', b'{"tags": {"x": 1}}', b'{"names": [], "names": []}', b"{" * 70000):
        raises((errno.EINVAL, errno.E2BIG), os.setxattr, case.path("d"), "trusted.massfs.schema", text)
    raises(errno.EINVAL, os.setxattr, case.path("f"), "trusted.massfs.schema", b"{}")
    massfs(case, "schema", "set", "--name=a/b", "d", code=1)
    for wrong in ("--min-size=abc", "--max-size=-1", "--grace=x"):
        check(wrong in massfs(case, "schema", "set", wrong, "d", code=1), f"{wrong} is not named")
    massfs(case, "schema", "set", "d", code=2)
    massfs(case, "schema", "frob", "d", code=2)
    massfs(case, "schema", "show", "f", code=1)
    os.chmod(case.path(), 0o755)
    check("permitted" in massfs(case, "schema", "set", "--name=x", "d", code=1, user=1000), "only root")
    check("root" in massfs(case, "failures", case.mount.path, code=1, user=1000), "only root sees the failures")
    same(massfs(case, "schema", "show", "d", user=1000), "no rules\n", "anybody may look")
    os.setxattr(case.path("d"), "trusted.massfs.schema", b'{"names": ["only"]}')
    raises(errno.EPERM, put, case.path("d/other"), b"")
    os.removexattr(case.path("d"), "trusted.massfs.schema")
    put(case.path("d/other"), b"")


def case_kept_by_dump_and_load(case):
    os.mkdir(case.path("d"))
    massfs(case, "schema", "set", "--name=kept*", "d")
    text = subprocess.run([*case.suite.command(), "dump", case.mount.path], capture_output=True, timeout=60, check=True).stdout
    text = subprocess.run(["zstd", "-dc"], input=text, capture_output=True, timeout=60, check=True).stdout if text[:4] == b"\x28\xb5\x2f\xfd" else text
    check(b'"schemas/' in text, "the dump has the rules' cell")


def close_error(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    """The errno of the close, 0: none."""
    fd = os.open(path, flags, 0o644)
    os.write(fd, data)
    try:
        os.close(fd)
    except OSError as e:
        return e.errno
    return 0


def restored(case, failure, to):
    massfs(case, "failures", f"--restore={failure['id']}", f"--to={case.path(to)}", case.mount.path)
    return get(case.path(to))


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10\x08\x06\x00\x00\x00"


def case_least_sizes(case):
    os.mkdir(case.path("d"))
    put(case.path("d/old"), b"o" * 20000)
    massfs(case, "schema", "set", "--min-size=10000", "d")
    put(case.path("d/fits"), b"f" * 10000)
    same(close_error(case.path("d/new"), b"n" * 9999), errno.EINVAL, "too small")
    same(os.stat(case.path("d/new")).st_size, 0, "made, and nothing is in it")
    same(close_error(case.path("d/old"), b"small"), errno.EINVAL, "an old one written anew")
    same(get(case.path("d/old")), b"o" * 20000, "the earlier state")
    fd = os.open(case.path("d/old"), os.O_RDWR)
    os.ftruncate(fd, 100)
    raises(errno.EINVAL, os.close, fd)
    same(get(case.path("d/old")), b"o" * 20000, "the earlier state, after a truncation that was committed")
    raises(errno.EINVAL, os.truncate, case.path("d/old"), 5)
    same(get(case.path("d/old")), b"o" * 20000, "the same, without an open")
    got = failures(case)
    same([(f["operation"], f["kind"], os.path.basename(f["path"]), f["size"]) for f in got],
         [("close", "min_size", "new", 9999), ("close", "min_size", "old", 5), ("close", "min_size", "old", 100), ("close", "min_size", "old", 5)],
         "failures")
    check(all(f["kept"] and f["address"] and "demand 10000" in f["reason"] for f in got), f"{got}")
    case.remount()
    same(get(case.path("d/old")), b"o" * 20000, "after a remount")
    same(restored(case, got[0], "r0"), b"n" * 9999, "what was refused")
    same(restored(case, got[1], "r1"), b"small", "what was refused")
    same(restored(case, got[2], "r2"), b"o" * 100, "what was refused")
    massfs(case, "failures", f"--restore={got[1]['id'][-8:]}", case.mount.path)
    same(get(case.path("d/old")), b"small", "in its own place, as root says so")


def case_least_sizes_and_shells(case):
    os.mkdir(case.path("d"))
    massfs(case, "schema", "set", "--min-size=10", "d")
    sh = lambda text: subprocess.run(["bash", "-c", text], cwd=case.path("d"), capture_output=True, timeout=60, check=False)
    for name in ("a", "a"):
        same(sh(f"echo 0123456789 > {name}").returncode, 0, "closed once before it is written")
        same(get(case.path("d/a")), b"0123456789\n", "written")
    same(sh("{ echo abc; cat /dev/null; echo 0123456; } > a").returncode, 0, "small at first, closed by a command that ends")
    same(get(case.path("d/a")), b"abc\n0123456\n", "by three")
    sh(": > a")
    wait_for(lambda: os.stat(case.path("d/a")).st_size == 12)
    same(get(case.path("d/a")), b"abc\n0123456\n", "not emptied")
    check(("close", "a") in told(case), f"and told: {failures(case)}")
    fd = os.open(case.path("d/a"), os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"part")
    os.fsync(fd)
    same(get(case.path("d/a")), b"part", "fsync is no close")
    raises(errno.EINVAL, os.close, fd)
    same(get(case.path("d/a")), b"abc\n0123456\n", "back")
    same(restored(case, failures(case)[-1], "r"), b"part", "kept")


def case_types(case):
    os.mkdir(case.path("d"))
    massfs(case, "schema", "set", "--type=image/*", "--type=text/plain", "d")
    put(case.path("d/t"), b"this is a text\n" * 100)
    put(case.path("d/p"), PNG + b"\0" * 30000)
    same(close_error(case.path("d/t"), b"%PDF-1.4\n" + b"x" * 40000), errno.EINVAL, "a PDF")
    same(get(case.path("d/t")), b"this is a text\n" * 100, "the earlier state")
    big = b"%PDF-1.4\n" + os.urandom(1 << 20) * 12
    same(close_error(case.path("d/big"), big), errno.EINVAL, "one that was sent in parts")
    same(os.stat(case.path("d/big")).st_size, 0, "made, and nothing is in it")
    fd = os.open(case.path("d/p"), os.O_RDWR)
    os.pwrite(fd, b"%PDF-1.4\n", 0)
    raises(errno.EINVAL, os.close, fd)
    same(get(case.path("d/p")), PNG + b"\0" * 30000, "the earlier state of one that was changed")
    put(case.path("d/empty"), b"")
    got = failures(case)
    same([(f["kind"], os.path.basename(f["path"])) for f in got], [("type", "t"), ("type", "big"), ("type", "p")], "failures")
    check("application/pdf" in got[0]["reason"], got[0]["reason"])
    case.volume.settle()
    case.remount()
    same(restored(case, got[0], "r0"), b"%PDF-1.4\n" + b"x" * 40000, "a small one")
    same(restored(case, got[1], "r1"), big, "a big one")
    same(restored(case, got[2], "r2"), (b"%PDF-1.4\n" + PNG[9:]) + b"\0" * 30000, "a changed one")
    put(case.path("other"), b"%PDF-1.4\n")
    os.rename(case.path("other"), case.path("d/other"))
    case.volume.settle()
    found = subprocess.run([*case.suite.command(), "schema", "check", "d"], cwd=case.path(), capture_output=True, timeout=60, check=False)
    check(b"other" in found.stdout and found.returncode == 1, f"check finds it: {found}")

def case_demanded_tags(case):
    os.mkdir(case.path("d"))
    put(case.path("d/before"), b"1")
    massfs(case, "schema", "set", "--demand=project", "--demand=year=20??", "--grace=2s", "d")
    for name in ("none", "half", "all", "late"):
        put(case.path("d/" + name), b"1")
    os.setxattr(case.path("d/half"), "user.project", b"x")
    massfs(case, "tag", "add", "-t", "project", "-t", "year=2026", "d/all")
    wait_for(lambda: len(told(case)) == 4, 60, "four files without their tags")
    same(sorted(told(case)), [("check", n) for n in ("before", "half", "late", "none")], "failures")
    one = [f for f in failures(case) if f["path"].endswith("half")][0]
    same([one["kind"], one["user"], one["host"]], ["tags", "root", os.uname().nodename], "who stored it")
    check("year" in one["reason"], one["reason"])
    same(json.loads(massfs(case, "status", "--json", case.mount.path))["untagged"], 4, "status")
    check("ALARM:      4 files lack tags" in massfs(case, "status", case.mount.path), "status as text")
    check("4 files lack tags that storage rules demand, the first of them: " in case.mount.log_text()
          or "files lack tags that storage rules demand" in case.mount.log_text(), "one line of the log")
    for name in ("before", "half", "late", "none"):
        massfs(case, "tag", "add", "-t", "project", "-t", "year=2026", "d/" + name)
    wait_for(lambda: json.loads(massfs(case, "status", "--json", case.mount.path))["untagged"] == 0, 60, "no more of them")
    same(len(told(case)), 4, "told once")


def case_failures_in_pages(case):
    os.mkdir(case.path("d"))
    os.mkdir(case.path("d/e"))
    massfs(case, "schema", "set", "--name=*.x", "d")
    for i in range(25):
        raises(errno.EPERM, put, case.path(f"d/f{i}"), b"")
    raises(errno.EPERM, put, case.path("d/e/last"), b"")
    below = f"--path={case.path('d')}"
    ask = lambda *args: [json.loads(x) for x in massfs(case, "failures", "--json", below, *args).splitlines()]
    everything = [os.path.basename(f["path"]) for f in ask()]
    same(everything, [f"f{i}" for i in range(25)] + ["last"], "all")
    got, after = [], []
    while page := ask("--limit=7", *after):
        check(len(page) <= 7, "a page")
        got += [os.path.basename(f["path"]) for f in page]
        after = [f"--after={page[-1]['id']}"]
        raises(errno.EPERM, put, case.path(f"d/new{len(got)}"), b"")  # what comes later is behind the cursor
        if len(got) > 40:
            break
    same(got[:26], everything, "in pages")
    same([os.path.basename(f["path"]) for f in ask(f"--path={case.path('d/e')}")], ["last"], "below a folder")
    same(len(ask("--kind=type")), 0, "another kind")
    same(len(ask("--user=nobody")), 0, "another user's")
    same(len(ask("--user=root", "--since=-1h", "--limit=5")), 5, "one's own, of the last hour")
    same(len(ask("--until=2020-01-01")), 0, "long ago")
    massfs(case, "failures", "--since=yesterday", case.mount.path, code=2)
    massfs(case, "failures", "--limit=0", case.mount.path, code=2)
    massfs(case, "failures", "--restore=zzz", case.mount.path, code=1)
    check("nothing was written" in massfs(case, "failures", f"--restore={ask('--limit=1')[0]['id']}", case.mount.path, code=1), "no content")


def case_permission_comes_first(case):
    os.mkdir(case.path("d"), 0o755)
    os.chmod(case.path(), 0o755)
    put(case.path("d/f.x"), b"f" * 100)
    massfs(case, "schema", "set", "--name=*.x", "--min-size=50", "--max-size=1K", "d")
    before = len(failures(case))

    def as_other(call, *args):
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(1000)
            os.setuid(1000)
            try:
                call(*args)
                os._exit(0)
            except OSError as e:
                os._exit(e.errno)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    same(as_other(put, case.path("d/new"), b""), errno.EACCES, "a name against the rules, in a folder of others")
    same(as_other(put, case.path("d/new.x"), b"small"), errno.EACCES, "one that fits")
    same(as_other(put, case.path("d/f.x"), b"small"), errno.EACCES, "another's file")
    same(as_other(os.truncate, case.path("d/f.x"), 5), errno.EACCES, "cut")
    same(as_other(os.rename, case.path("d/f.x"), case.path("d/f")), errno.EACCES, "renamed")
    same(as_other(os.setxattr, case.path("d"), "trusted.massfs.schema", b"{}"), errno.EPERM, "rules of one's own")
    same(len(failures(case)), before, "nothing was refused by rules, nothing written")
    same(sorted(os.listdir(case.path("d"))), ["f.x"], "nothing came")
    same(get(case.path("d/f.x")), b"f" * 100, "nothing changed")


def case_killed_while_refusing(case):
    """kill -9 before, at and after the change: the file has what it had, and either nothing was refused or all of it is kept."""
    suite = case.suite
    if suite.plain:
        return
    old, new = os.urandom(300_000), b"%PDF-1.4\n" + os.urandom(90_000)
    for point, fsync, kept in (("commit.stored", False, 0), ("refuse.judged", False, 0), ("refuse.kept", False, 1), ("refuse.back", True, 1)):
        volume = suite.volume(f"killed-{point}").format()
        mount = volume.mount("allow_other")
        at = lambda *parts: os.path.join(mount.path, *parts)
        os.mkdir(at("d"))
        put(at("d/f"), old)
        subprocess.run([*suite.command(), "schema", "set", "--min-size=200K", at("d")], check=True, timeout=60)
        mount.umount()
        suite.massfs("settle", "--wait", volume.source)
        mount = volume.mount("allow_other", env={**suite.env, "MASSFS_CRASH_AT": point})
        fd = os.open(at("d/f"), os.O_WRONLY | os.O_TRUNC)
        os.write(fd, new)
        if fsync:
            os.fsync(fd)
        try:
            os.close(fd)
        except OSError:
            pass
        wait_for(lambda: not mount.alive(), 30, f"the end of the daemon at {point}")
        mount.kill()
        mount = volume.mount("allow_other")
        same(get(at("d/f")), old, f"{point}: the earlier state")
        found = [json.loads(x) for x in suite.massfs("failures", "--json", mount.path)[1].splitlines()]
        same(len(found), kept, f"{point}: failures")
        if suite.args.store == "cluster":
            time.sleep(15)  # until the dead session is known to be dead, and the keys it wrote are looked at
        mount.umount()
        suite.massfs("settle", "--wait", volume.source)
        for _ in range(2):
            suite.massfs("gc", "--delete", volume.source)
        volume.fsck()
        mount = volume.mount("allow_other")
        same(get(at("d/f")), old, f"{point}: the earlier state, after settle and gc")
        for f in found:
            suite.massfs("failures", f"--restore={f['id']}", f"--to={at('r')}", mount.path)
            same(get(at("r")), new, f"{point}: what was refused")
        mount.umount()


if __name__ == "__main__":
    run_cases("schema", __doc__, globals())
