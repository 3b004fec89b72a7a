#!/usr/bin/env python3
"""What other programs do with extended attributes, ACLs and tags in the mount: rsync, cp, tar, git, Samba. What goes out and
comes back is what was there, and what Samba's clients set is found by massfs find."""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Skip, check, get, put, run, run_cases, same, wait_for

VALUES = {"user.year": b"2026", "user.xdg.tags": b"draft,signed", "user.raw": bytes(range(256)), "user.empty": b"",
          "user.sp ace \xe4": b"a\nb", "user.big": bytes(i * 7 % 256 for i in range(60000)), "trusted.kept": b"\x00t",
          "security.note": b"label"}
PASSWORD = "not-a-secret-1"


def make_tree(path):
    """Files, directories, links, modes, times, ACLs, attributes on all of them."""
    os.makedirs(os.path.join(path, "d/e"))
    for name in ("f", "d/g", "d/e/h"):
        put(os.path.join(path, name), name.encode() * 1000)
    os.link(os.path.join(path, "f"), os.path.join(path, "d/hard"))
    os.symlink("f", os.path.join(path, "link"))
    for number, name in enumerate(("f", "d/g", "d", "d/e")):
        for key, value in VALUES.items():
            os.setxattr(os.path.join(path, name), key, value + (b"%d" % number if key == "user.year" else b""))
    run(["setfacl", "-m", "u:1000:rw,g:1001:r,m::rw", os.path.join(path, "f")])
    run(["setfacl", "-m", "u:1000:rwx,d:u:1000:rx,d:o::-", os.path.join(path, "d")])
    os.chmod(os.path.join(path, "d/g"), 0o4751)
    os.chown(os.path.join(path, "d/e/h"), 1000, 1001)
    for name in ("f", "d/g", "d/e/h", "d/e", "d"):
        os.utime(os.path.join(path, name), ns=(1_700_000_000_123456789, 1_600_000_000_987654321))


def look(path):
    """{name: what a copy must keep}, of all below path."""
    found = {}
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            at = os.path.join(folder, name)
            s = os.lstat(at)
            found[os.path.relpath(at, path)] = (
                oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns if name != "link" else 0,
                {n: os.getxattr(at, n, follow_symlinks=False) for n in os.listxattr(at, follow_symlinks=False)},
                os.readlink(at) if os.path.islink(at) else get(at) if os.path.isfile(at) else None,
                s.st_nlink if not os.path.isdir(at) else 0)
    return found


def compare(got, want, what):
    same(sorted(got), sorted(want), f"{what}: names")
    for name, record in want.items():
        for field, a, b in zip(("mode", "uid", "gid", "mtime", "attributes", "content", "links"), got[name], record):
            same(a, b, f"{what}: {field} of {name}")


def find(case, expression, folder=""):
    done = subprocess.run([*case.suite.command(), "find", "--print0", case.path(folder), expression], capture_output=True, timeout=120, check=False)
    same(done.returncode, 0, f"find {expression}: {done.stderr.decode(errors='replace')}")
    return sorted(os.path.relpath(os.fsdecode(f), case.path()) for f in done.stdout.split(b"\0")[:-1])


def copies(case, source, copy):
    """`copy(from, to)` within the mount, out of it, and back."""
    make_tree(source)
    want = look(source)
    copy(source, case.path("copy"))
    compare(look(case.path("copy")), want, "in the mount")
    for folder, folders, files in os.walk(source):  # what other filesystems do not take
        for at in (os.path.join(folder, name) for name in (*folders, *files)):
            if "user.big" in os.listxattr(at):
                os.removexattr(at, "user.big")
    small = look(source)
    outside = case.suite.path(f"outside-{case.name}")
    copy(source, outside)
    compare(look(outside), small, "out of the mount")
    copy(outside, case.path("back"))
    compare(look(case.path("back")), small, "back into it")
    found = find(case, "year = 20260 and draft and signed", "back")
    check(found in (["back/d/hard"], ["back/f"]), f"what came back is found, by one of its names: {found}")
    case.remount()
    compare(look(case.path("back")), small, "after a remount")
    compare(look(case.path("copy")), want, "the first copy after a remount")


def case_cp_a(case):
    copies(case, case.path("from"), lambda a, b: run(["cp", "-a", a, b]))


def case_rsync_aHAX(case):
    copies(case, case.path("from"), lambda a, b: run(["rsync", "-aHAX", f"{a}/", f"{b}/"]))
    os.setxattr(case.path("from/f"), "user.year", b"1999")
    os.removexattr(case.path("from/d/g"), "user.raw")
    run(["rsync", "-aHAX", f"{case.path('from')}/", f"{case.path('copy')}/"])
    compare(look(case.path("copy")), look(case.path("from")), "only attributes differed")
    same(run(["rsync", "-aHAXi", f"{case.path('from')}/", f"{case.path('copy')}/"])[1], "", "and nothing differs then")


def case_tar_xattrs(case):
    def by_tar(a, b):
        os.mkdir(b)
        run(["tar", "--xattrs", "--xattrs-include=*", "--acls", "--format=posix", "-C", a, "-cf", f"{b}.tar", "."])
        run(["tar", "--xattrs", "--xattrs-include=*", "--acls", "-C", b, "-xpf", f"{b}.tar"])

    copies(case, case.path("from"), by_tar)


def case_git_keeps_them_on_what_it_does_not_write(case):
    """git stores no attributes: they stay with a file that it leaves alone, or renames."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    work = case.path("work")
    os.mkdir(work)

    def git(*args):
        run(["git", "-C", work, "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", f"safe.directory={work}", *args], env=env)

    git("init", "-q", "-b", "main")
    for name in ("kept", "moved", "changed"):
        put(os.path.join(work, name), name.encode())
        os.setxattr(os.path.join(work, name), "user.git-test", name.encode())
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    git("mv", "moved", "renamed")
    git("commit", "-q", "-m", "two")
    git("checkout", "-q", "-b", "other")
    put(os.path.join(work, "changed"), b"changed again")
    git("commit", "-q", "-am", "three")
    git("checkout", "-q", "main")
    git("gc", "-q")
    git("fsck", "--strict")
    same({n: os.getxattr(os.path.join(work, n), "user.git-test") for n in ("kept", "renamed")}, {"kept": b"kept", "renamed": b"moved"},
         "attributes of what git left alone or renamed")
    same(get(os.path.join(work, "changed")), b"changed", "the branch's content")
    same(find(case, "git-test = kept or git-test = moved"), ["work/kept", "work/renamed"], "found")
    run(["git", "-c", f"safe.directory={work}", "-c", f"safe.directory={work}/.git", "clone", "-q", work, case.path("clone")], env=env)
    same(find(case, "git-test", "clone"), [], "a clone has none")


# ---- Samba


class Smbd:
    """smbd of the test's own: its folder, one share, and a network of its own, as smbcacls knows no port but 445."""

    def __init__(self, case, share):
        self.dir = case.suite.path(f"samba-{case.name}")
        os.mkdir(self.dir, 0o700)
        for name in ("private", "lock", "state", "cache", "pid", "rpc"):
            os.mkdir(f"{self.dir}/{name}", 0o755)
        self.conf = f"{self.dir}/smb.conf"
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"""[global]
server role = standalone server
security = user
passdb backend = tdbsam:{self.dir}/private/passdb.tdb
private dir = {self.dir}/private
lock directory = {self.dir}/lock
state directory = {self.dir}/state
cache directory = {self.dir}/cache
pid directory = {self.dir}/pid
ncalrpc dir = {self.dir}/rpc
log file = {self.dir}/log
log level = 1
smb ports = 445
bind interfaces only = yes
interfaces = lo
disable netbios = yes
load printers = no
printing = bsd
printcap name = /dev/null
disable spoolss = yes
server min protocol = SMB2

[share]
path = {share}
read only = no
vfs objects = streams_xattr acl_xattr
ea support = yes
store dos attributes = yes
map archive = no
acl_xattr:ignore system acls = yes
""")
        subprocess.run(["smbpasswd", "-c", self.conf, "-s", "-a", "root"], input=f"{PASSWORD}\n{PASSWORD}\n".encode(), check=True,
                       capture_output=True, timeout=60)
        self.auth = f"{self.dir}/auth"
        with open(self.auth, "w", encoding="utf-8") as file:
            file.write(f"username = root\npassword = {PASSWORD}\n")
        self.start()

    def start(self):
        with open(f"{self.dir}/out", "wb") as out:
            self.process = subprocess.Popen(["unshare", "--net", "sh", "-c", 'ip link set lo up && exec smbd --foreground --no-process-group "$@"',
                                             "sh", f"--configfile={self.conf}"], stdout=out, stderr=out,
                                            stdin=subprocess.DEVNULL, start_new_session=True)
        wait_for(self.answers, 60, "smbd answers")

    def answers(self):
        check(self.process.poll() is None, f"smbd has ended: {self.said()}")
        return subprocess.run([*self.inside(), "smbclient", "-s", self.conf, "-A", self.auth, "//127.0.0.1/share", "-c", "ls"],
                              capture_output=True, timeout=60, check=False).returncode == 0

    def inside(self):
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def said(self):
        return "".join(get(f"{self.dir}/{n}").decode(errors="replace")[-2000:] for n in ("out", "log") if os.path.exists(f"{self.dir}/{n}"))

    def client(self, *commands):
        done = subprocess.run([*self.inside(), "smbclient", "-s", self.conf, "-A", self.auth, "//127.0.0.1/share", "-c", ";".join(commands)],
                              capture_output=True, timeout=120, check=False)
        text = (done.stdout + done.stderr).decode(errors="replace")
        check(done.returncode == 0 and "NT_STATUS" not in text, f"smbclient {commands}: {done.returncode}: {text}\n{self.said()}")
        return text

    def acls(self, path, *args):
        done = subprocess.run([*self.inside(), "smbcacls", "-s", self.conf, "-A", self.auth, "//127.0.0.1/share", path, *args],
                              capture_output=True, timeout=120, check=False)
        text = (done.stdout + done.stderr).decode(errors="replace")
        check(done.returncode == 0, f"smbcacls {path} {args}: {text}\n{self.said()}")
        return sorted(line for line in text.splitlines() if re.match(r"ACL:|OWNER:|GROUP:", line))

    def stop(self):
        """With what it has started; it needs no clean end, and takes long for one."""
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(60)


def streams_of(text):
    return sorted(re.findall(r"stream: \[:([^\]]*):\$DATA\]", text))


def case_samba(case):
    for program in ("smbd", "smbclient", "smbcacls", "smbpasswd"):
        if not any(os.access(os.path.join(p, program), os.X_OK) for p in (*os.environ["PATH"].split(":"), "/usr/sbin")):
            raise Skip(f"there is no {program} (Debian: samba, samba-vfs-modules, smbclient)")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    os.mkdir(case.path("share"))
    local = case.suite.path("local")
    put(local, b"what a client puts\n" * 5000)
    small = case.suite.path("small")
    put(small, b"[ZoneTransfer]\r\nZoneId=3\r\n")
    smbd = Smbd(case, case.path("share"))
    try:
        samba_writes(case, smbd, local, small)
        samba_reads(case, smbd)
        before = {n: os.getxattr(case.path("share/Offer.txt"), n) for n in os.listxattr(case.path("share/Offer.txt"))}
        acl = smbd.acls("Offer.txt")
    finally:
        smbd.stop()
    case.remount()
    smbd.start()
    try:
        same({n: os.getxattr(case.path("share/Offer.txt"), n) for n in os.listxattr(case.path("share/Offer.txt"))}, before, "after a remount")
        same(smbd.acls("Offer.txt"), acl, "the ACL after a remount")
        same(streams_of(smbd.client('allinfo "Offer.txt"')), ["", "Zone.Identifier"], "streams after a remount")
    finally:
        smbd.stop()


def samba_writes(case, smbd, local, small):
    """A client makes files, attributes, a stream and an ACL; here they are seen, and found."""
    smbd.client(f'put "{local}" "Offer.txt"', 'setea "Offer.txt" "customer" "Miller & Co"', 'setea "Offer.txt" "year" "2026"',
                f'put "{small}" "Offer.txt:Zone.Identifier"', "mkdir folder", f'put "{small}" "folder\\other.txt"', 'setmode "Offer.txt" +h')
    path = case.path("share/Offer.txt")
    same(get(path), get(local), "content")
    # Samba ends an attribute that came as a string as it came.
    values = {n.lower(): os.getxattr(path, n).rstrip(b"\0") for n in os.listxattr(path)}
    same({n: values.get(n) for n in ("user.customer", "user.year")}, {"user.customer": b"Miller & Co", "user.year": b"2026"}, "what setea set")
    check(any(n.startswith("user.dosstream.zone.identifier") for n in values), f"the stream is an attribute: {sorted(values)}")
    check("user.dosattrib" in values, f"DOS attributes: {sorted(values)}")
    year = next(n for n in os.listxattr(path) if n.lower() == "user.year")[5:]
    same(find(case, f"tag:{year} ~ '2026*'"), ["share/Offer.txt"], "found by what a client set")
    for name in ("DOSATTRIB", "DosStream.Zone.Identifier:$DATA"):
        same(find(case, f'tag:"{name}"'), [], f"{name} is no tag")
    smbd.acls("Offer.txt", "-a", "ACL:S-1-5-32-545:ALLOWED/0/READ")
    check("security.NTACL" in os.listxattr(path), "the ACL is an attribute")


def samba_reads(case, smbd):
    """What is set here is what a client reads."""
    path = case.path("share/Offer.txt")
    os.setxattr(path, "user.colour", b"blue")
    text = smbd.client('geteas "Offer.txt"')
    check(re.search(r"colour.*blue|blue", text, re.S | re.I) and "2026" in text, f"geteas: {text}")
    info = smbd.client('allinfo "Offer.txt"')
    same(streams_of(info), ["", "Zone.Identifier"], f"streams: {info}")
    check(re.search(r"^attributes: .*H", info, re.M), f"hidden: {info}")
    out = case.suite.path("stream")
    smbd.client(f'get "Offer.txt:Zone.Identifier" "{out}"')
    same(get(out), get(case.suite.path("small")), "the stream's content")
    acl = smbd.acls("Offer.txt")
    check(any("545" in line or "Users" in line for line in acl), f"the ACL: {acl}")
    smbd.client('rename "Offer.txt" "folder\\Offer 2.txt"')
    same(sorted(n for n in os.listdir(case.path("share/folder"))), ["Offer 2.txt", "other.txt"], "renamed")
    same(find(case, "colour = blue"), ["share/folder/Offer 2.txt"], "the tags came along")
    same(smbd.acls("folder/Offer 2.txt"), acl, "and the ACL")
    os.rename(case.path("share/folder/Offer 2.txt"), path)
    same(streams_of(smbd.client('allinfo "Offer.txt"')), ["", "Zone.Identifier"], "and the stream")
    run(["rsync", "-aHAX", f"{case.path('share')}/", f"{case.path('copy')}/"])
    copy = case.path("copy/Offer.txt")
    same({n: os.getxattr(copy, n) for n in os.listxattr(copy)}, {n: os.getxattr(path, n) for n in os.listxattr(path)}, "rsync carries all of it")
    smbd.client('del "folder\\other.txt"')
    same(os.listdir(case.path("share/folder")), [], "deleted")


if __name__ == "__main__":
    run_cases("xattrs_tools", __doc__, globals())
