#!/usr/bin/env python3
"""Random operations on the mount and on a local directory: results, errors and trees must be the same.

One thread, many open descriptors, all operations of names, attributes and content. After a difference the
last operations are printed; the seed brings them again.
"""
import errno
import os
import random
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Failure, same

NAMES = ("a", "b", "c", "ä", ".x.AAAAAA", "x", "y.part", "y")


class Twin:
    def __init__(self, suite, left, right, seed):
        self.suite = suite
        self.roots = (left, right)
        self.rng = random.Random(seed)
        self.open = []  # pairs of descriptors
        self.log = []

    # ---- one operation on both

    def both(self, function, *rels, args=(), kwargs=None, pick=lambda value: value):
        """rels are paths below each root; the outcomes must be equal. True when it worked."""
        outcomes = []
        for root in self.roots:
            try:
                value = function(*[f"{root}/{r}" for r in rels], *args, **(kwargs or {}))
                outcomes.append(("ok", pick(value)))
            except OSError as error:
                outcomes.append(("error", errno.errorcode.get(error.errno)))
        self.note(function, rels, args, outcomes)
        return outcomes[0][0] == "ok"

    def both_fd(self, pair, function, *args, pick=lambda value: value):
        outcomes = []
        for fd in pair:
            try:
                outcomes.append(("ok", pick(function(fd, *args))))
            except OSError as error:
                outcomes.append(("error", errno.errorcode.get(error.errno)))
        self.note(function, (f"fd {pair[0]}",), args, outcomes)

    def note(self, function, rels, args, outcomes):
        self.log.append(f"{getattr(function, '__name__', function)}{rels} "
                        f"{mfs.shorten(args, 80)} -> {mfs.shorten(outcomes[0], 80)}")
        if outcomes[0] != outcomes[1]:
            raise Failure("massfs and the local directory differ: "
                          f"{mfs.shorten(outcomes[0])} and {mfs.shorten(outcomes[1])}\nlast operations:\n  "
                          + "\n  ".join(self.log[-25:]))

    def name(self):
        depth = self.rng.choice((1, 1, 2, 2, 3))
        return "/".join(self.rng.choice(NAMES) for _ in range(depth))

    def piece(self):
        return self.rng.randbytes(self.rng.choice((0, 1, 10, 1000, 4096, 50000)))

    # ---- the operations

    def do_open(self):
        flags = self.rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        for flag in (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND):
            if self.rng.random() < (0.7 if flag == os.O_CREAT else 0.2):
                flags |= flag
        if flags & os.O_EXCL and not flags & os.O_CREAT or flags & os.O_TRUNC and not flags & (os.O_RDWR | os.O_WRONLY):
            return  # POSIX leaves these open
        rel, pair = self.name(), []
        self.both(os.open, rel, args=(flags, self.rng.choice((0o644, 0o600))), pick=pair.append)
        if pair:
            self.open.append(pair)
        if len(self.open) > 8:
            self.do_close()

    def do_close(self):
        if self.open:
            self.both_fd(self.open.pop(self.rng.randrange(len(self.open))), os.close)

    def fd(self):
        return self.rng.choice(self.open) if self.open else None

    def on_fd(self, function, *args, pick=lambda value: value):
        if self.open:
            self.both_fd(self.fd(), function, *args, pick=pick)

    def do_write(self):
        self.on_fd(os.write, self.piece())

    def do_pwrite(self):
        self.on_fd(os.pwrite, self.piece(), self.rng.randrange(100000))

    def do_read(self):
        self.on_fd(os.read, self.rng.randrange(60000))

    def do_pread(self):
        self.on_fd(os.pread, self.rng.randrange(60000), self.rng.randrange(100000))

    def do_seek(self):
        self.on_fd(os.lseek, self.rng.randrange(100000), os.SEEK_SET)

    def do_ftruncate(self):
        self.on_fd(os.ftruncate, self.rng.randrange(120000))

    def do_fsync(self):
        self.on_fd(os.fsync)

    def do_fstat(self):
        self.on_fd(os.fstat, pick=lambda st: attributes(st, True))

    def do_fchmod(self):
        self.on_fd(os.fchmod, self.rng.choice((0o644, 0o600, 0o4755, 0o2755, 0o2644)))

    def do_whole_file(self):
        self.both(mfs.put, self.name(), args=(self.piece(),), pick=lambda _: None)

    def do_get(self):
        self.both(mfs.get, self.name())

    def do_truncate(self):
        self.both(os.truncate, self.name(), args=(self.rng.randrange(120000),))

    def do_mkdir(self):
        self.both(os.mkdir, self.name(), args=(self.rng.choice((0o755, 0o700, 0o2775)),))

    def do_rmdir(self):
        self.both(os.rmdir, self.name())

    def do_unlink(self):
        rel = self.name()
        if os.path.isdir(f"{self.roots[0]}/{rel}") and not os.path.islink(f"{self.roots[0]}/{rel}"):
            return
        self.both(os.unlink, rel)

    def do_rename(self):
        self.both(os.rename, self.name(), self.name())

    def do_renameat2(self):
        self.both(mfs.renameat2, self.name(), self.name(),
                  args=(self.rng.choice((mfs.RENAME_NOREPLACE, mfs.RENAME_EXCHANGE)),))

    def do_link(self):
        self.both(os.link, self.name(), self.name(), kwargs={"follow_symlinks": False})

    def do_symlink(self):
        target = self.rng.choice(("a", "b/c", "../x", "nowhere", "loop"))
        self.both(lambda path: os.symlink(target, path), self.name())

    def do_readlink(self):
        self.both(os.readlink, self.name())

    def do_lstat(self):
        self.both(os.lstat, self.name(), pick=attributes)

    def do_stat(self):
        self.both(os.stat, self.name(), pick=attributes)

    def do_list(self):
        self.both(os.listdir, self.name(), pick=sorted)

    def do_chmod(self):
        self.both(os.chmod, self.name(), args=(self.rng.choice((0o644, 0o600, 0o755, 0o4755)),))

    def do_chown(self):
        self.both(os.lchown, self.name(), args=(self.rng.choice((0, 1000)), self.rng.choice((-1, 0, 1000))))

    def do_utime(self):
        times = (self.rng.randrange(-10**18, 2 * 10**18), self.rng.randrange(-10**18, 2 * 10**18))
        self.both(os.utime, self.name(), kwargs={"ns": times, "follow_symlinks": False})

    def do_setxattr(self):
        self.both(os.setxattr, self.name(), args=(f"user.{self.rng.choice('pq')}", self.piece()[:200],
                                                  self.rng.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))))

    def do_removexattr(self):
        self.both(os.removexattr, self.name(), args=(f"user.{self.rng.choice('pq')}",))

    def do_mknod(self):
        self.both(os.mknod, self.name(), args=(self.rng.choice((0o100644, 0o100600, 0o140755)),))

    def step(self):
        names = [n for n in dir(self) if n.startswith("do_")]
        getattr(self, self.rng.choice(names))()

    # ---- the trees

    def compare(self):
        left, right = (snapshot(root) for root in self.roots)
        for rel in sorted(set(left) | set(right)):
            if left.get(rel) != right.get(rel):
                raise Failure(f"{rel}: massfs {mfs.shorten(left.get(rel))}, local {mfs.shorten(right.get(rel))}"
                              "\nlast operations:\n  " + "\n  ".join(self.log[-25:]))

    def close_all(self):
        while self.open:
            self.do_close()


def attributes(st, is_open=False):
    """What two filesystems must agree on; a directory's size and link count are its own affair."""
    folder = stat.S_ISDIR(st.st_mode)
    return (st.st_mode, st.st_uid, st.st_gid, 0 if folder else st.st_size, 0 if folder else st.st_nlink)


def snapshot(root):
    found = {}
    inodes = {}
    for where, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(where, name)
            rel = os.path.relpath(path, root)
            st = os.lstat(path)
            value = [attributes(st)]
            if stat.S_ISREG(st.st_mode):
                value.append(mfs.get(path))
                value.append(inodes.setdefault(st.st_ino, rel) if st.st_nlink > 1 else None)
            if stat.S_ISLNK(st.st_mode):
                value.append(os.readlink(path))
            elif not stat.S_ISFIFO(st.st_mode) and not stat.S_ISSOCK(st.st_mode):
                value.append({n: os.getxattr(path, n) for n in os.listxattr(path) if n.startswith("user.")})
            if st.st_mtime_ns < 10**18 * 1.5:
                value.append(st.st_mtime_ns)  # set by utime; a time of now differs by its nature
            found[rel] = value
    # os.walk lists in each filesystem's own order: the name that stands for an inode must not depend on it.
    groups = {}
    for rel, value in found.items():
        if len(value) > 2 and stat.S_ISREG(value[0][0]) and value[2] is not None:
            groups.setdefault(value[2], []).append(rel)
    for rels in groups.values():
        for rel in rels:
            found[rel][2] = min(rels)
    return found


def body(suite):
    rounds = suite.args.rounds or (40 if suite.long else 4)
    steps = 600 if suite.sanitizer else 1500
    volume = suite.volume().format()
    mount = volume.mount("allow_other,suid,dev")
    for number in range(rounds):
        left, right = f"{mount.path}/t{number}", suite.path(f"local{number}")
        os.mkdir(left)
        os.mkdir(right)
        twin = Twin(suite, left, right, f"{suite.seed} {number}")
        for step in range(steps):
            twin.step()
            if step % 300 == 299:
                twin.compare()
        twin.close_all()
        twin.compare()
        before = {r: os.lstat(f"{left}/{r}").st_ino for r in snapshot(left)}
        mount = mount.remount("allow_other,suid,dev")
        twin.compare()
        same({r: os.lstat(f"{left}/{r}").st_ino for r in before}, before, "inodes after a remount")
        mfs.run(["rm", "-rf", left, right])
        print(f"ok     round {number}: {len(twin.log)} operations", flush=True)
    mount.umount()
    volume.fsck()


if __name__ == "__main__":
    mfs.main("twin", __doc__, body, lambda p: p.add_argument("--rounds", type=int, default=0))
