#!/usr/bin/env python3
"""kill -9 of the daemon in the middle of a recorded workload; then the promises against the record.

Every other round the daemon dies at a random moment, the rounds between at a named crash point (common/crash_point.h; found
by searching the sources), at the Nth time it comes there. The reconciler and gc work beside the writers as fast as they
can; half of the time they are killed once more while they mend the volume.

Several writers work at once, each on names of its own in directories they share. Before each system call
the record says what it may lead to, after it what was acknowledged. When the daemon is killed each writer
has at most one call in flight; of that either outcome is right, of all else only the acknowledged one:

  promise 1  what close or fsync acknowledged is there, byte for byte;
  promise 2  a file holds one committed content, never parts of two; no name without its data; nothing
             that was acknowledged is undone;
  promise 3  the names are those of the record, each change whole (a rename is seen at one place).

Then settle --wait, and the volume is unmounted: objects/ shows each file at its path, `massfs fsck` is clean, `massfs gc
--delete` leaves exactly the live set, and everything is read back once more to see that the rest was only garbage.
"""
import errno
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Failure, check

DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV)
N_WRITERS = 5
SHARED = ("shared-0", "shared-1")
BIG = 5 << 20
IMPORTED = "imported"


POINT = re.compile(r'\bmfs_crash_point\("([^"]+)"\)')


def crash_points(suite):
    """The names in the sources; none when the build has none compiled in."""
    with open(f"{suite.build}/CMakeCache.txt", encoding="utf-8") as file:
        cache = file.read()
    if not re.search(r"^MASSFS_CRASH_POINTS:BOOL=(ON|1|TRUE|YES)$", cache, re.M | re.I):
        return []
    source = re.search(r"^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$", cache, re.M).group(1)
    found = set()
    for folder in ("common", "backend", "meta", "fs", "tools"):
        for where, _, names in os.walk(os.path.join(source, folder)):
            for name in names:
                if name.endswith(".c"):
                    found.update(POINT.findall(mfs.get(os.path.join(where, name)).decode()))
    return sorted(p for p in found if not p.startswith("refuse."))  # of storage rules: cases/schema.py


class Killed(Exception):
    """The daemon is gone: the writer stops where it is."""


class File:
    """One inode. data is what was acknowledged last; maybe are contents that a call in flight may have left."""
    kind = "file"

    def __init__(self):
        self.data = b""
        self.maybe = []
        self.mode = 0o644
        self.maybe_modes = []
        self.xattrs = {}
        self.maybe_xattrs = []

    def problem(self, path, st):
        if not stat.S_ISREG(st.st_mode):
            return "is not a regular file"
        data = mfs.get(path)
        if data != self.data and data not in self.maybe and not mfs.is_between(data, [self.data, *self.maybe]):
            return describe(data, self.data, self.maybe)
        if st.st_size != len(data):
            return f"st_size {st.st_size}, but {len(data)} bytes"
        if stat.S_IMODE(st.st_mode) not in (self.mode, *self.maybe_modes):
            return f"mode {stat.S_IMODE(st.st_mode):o}, want {self.mode:o}"
        xattrs = {n: os.getxattr(path, n) for n in os.listxattr(path) if n.startswith("user.")}
        if xattrs != self.xattrs and xattrs not in self.maybe_xattrs:
            return f"xattrs {xattrs}, want {self.xattrs}"
        return None

    def adopt(self, path, st):
        """What was found is the state from here on."""
        self.data = mfs.get(path)
        self.mode = stat.S_IMODE(st.st_mode)
        self.xattrs = {n: os.getxattr(path, n) for n in os.listxattr(path) if n.startswith("user.")}
        self.maybe, self.maybe_modes, self.maybe_xattrs = [], [], []


def describe(data, want, maybe):
    text = f"{len(data)} bytes, acknowledged were {len(want)}, in flight {[len(m) for m in maybe]}"
    for name, other in [("acknowledged", want), *[("in flight", m) for m in maybe]]:
        same = next((n for n, (a, b) in enumerate(zip(data, other)) if a != b), min(len(data), len(other)))
        text += f"; as the {name} one up to byte {same}"
    return text


class Folder:
    kind = "directory"

    def problem(self, _path, st):
        return None if stat.S_ISDIR(st.st_mode) else "is not a directory"

    def adopt(self, path, st):
        pass


class Symlink:
    kind = "symlink"

    def __init__(self, target):
        self.target = target

    def problem(self, path, st):
        if not stat.S_ISLNK(st.st_mode) or os.readlink(path) != self.target:
            return f"is not a symbolic link to {self.target}"
        return None

    def adopt(self, path, st):
        pass


class Writer:
    """One writer: its record and its random work."""

    def __init__(self, number, seed, plain):
        self.number = number
        self.big_share = 0.03   # of the files: bigger than a part
        self.plain = plain      # a bare directory is not killed: work is finished first
        self.rng = random.Random(seed)
        self.home = f"writer-{number}"
        self.tree = {}          # relative path -> File, Folder, Symlink: what was acknowledged
        self.pending = None     # {path: entry or None}: what the call in flight changes
        self.counter = 0
        self.calls = 0
        self.error = None
        self.last = ""

    # ---- one system call

    def call(self, function, *args, **kwargs):
        if self.killed.is_set() and not self.plain:
            raise Killed
        self.calls += 1
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.errno in DEAD and self.killed.wait(5):
                raise Killed from error
            # SIGTERM takes the mount away: a path that is looked up then ends in the empty directory below it.
            if error.errno == errno.ENOENT and self.killed.is_set() and not os.path.ismount(self.root):
                raise Killed from error
            raise

    def change(self, after, function, *args, **kwargs):
        """A call that changes names: `after` is the difference it makes."""
        self.pending = after
        result = self.call(function, *args, **kwargs)
        self.settle(after)
        return result

    def settle(self, after):
        for path, entry in after.items():
            if entry is None:
                self.tree.pop(path, None)
            else:
                self.tree[path] = entry
        self.pending = None

    def commit(self, file, data, function, fd):
        """close or fsync: its success acknowledges `data`."""
        file.maybe.append(data)
        self.call(function, fd)
        file.data = data
        file.maybe = []

    def path(self, rel):
        return os.path.join(self.root, rel)

    # ---- choosing

    def fresh(self):
        self.counter += 1
        folders = [p for p, e in self.tree.items() if e.kind == "directory" and p != self.home]
        where = self.rng.choice([self.home, *SHARED, *folders[:20]])
        return f"{where}/w{self.number}-{self.counter}"

    def pick(self, kind="file"):
        found = [p for p, e in self.tree.items() if e.kind == kind and p not in (self.home, *SHARED)]
        return self.rng.choice(found) if found else None

    def content(self):
        kind = self.rng.random()
        if kind < self.big_share:
            size = self.rng.randrange(BIG - 10, 2 * BIG + 10)
        elif kind < 0.3:
            size = self.rng.randrange(0, 200)
        else:
            size = self.rng.randrange(0, 120_000)
        return self.rng.randbytes(size)

    # ---- the work

    def write_call(self, function, fd, piece, *offset):
        """The kill in the middle of a write(2) of several FUSE requests makes it short."""
        if self.call(function, fd, piece, *offset) != len(piece):
            if self.killed.wait(5):
                raise Killed
            raise Failure("short write")

    def write_all(self, file, fd, data, before=b""):
        """`before` is what the file has; a handle that is open for long commits by itself, between any two writes."""
        step = max(4096, len(data) // self.rng.randrange(1, 6))
        for start in range(0, len(data), step):
            file.maybe.append(before + data[:start + step])
            self.write_call(os.write, fd, data[start:start + step])

    def create(self, rel):
        file = File()
        fd = self.change({rel: file}, os.open, self.path(rel), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self.fds.append(fd)
        return file, fd

    def close(self, file, data, fd):
        if self.rng.random() < 0.3:
            self.commit(file, data, os.fsync, fd)
        self.fds.remove(fd)
        self.commit(file, data, os.close, fd)

    def new_file(self):
        file, fd = self.create(self.fresh())
        data = self.content()
        self.write_all(file, fd, data)
        self.close(file, data, fd)

    def save_by_rename(self):
        """As editors and rsync do it: a temporary name, then over the old one."""
        target = self.pick() or self.fresh()
        head, name = os.path.split(target)
        temporary = f"{head}/.{name}.{self.rng.randrange(10**5, 10**6)}"
        file, fd = self.create(temporary)
        data = self.content()
        self.write_all(file, fd, data)
        late = self.rng.random() < 0.25
        if not late:
            self.close(file, data, fd)
        self.change({temporary: None, target: file}, os.rename, self.path(temporary), self.path(target))
        if late:
            self.close(file, data, fd)

    def rewrite(self):
        rel = self.pick()
        if rel is None:
            return
        file = self.tree[rel]
        file.maybe.append(b"")  # from the open on the file may be empty
        fd = self.call(os.open, self.path(rel), os.O_WRONLY | os.O_TRUNC)
        self.fds.append(fd)
        data = self.content()
        self.write_all(file, fd, data)
        self.fds.remove(fd)
        self.commit(file, data, os.close, fd)

    def change_inside(self):
        rel = self.pick()
        if rel is None:
            return
        file = self.tree[rel]
        fd = self.call(os.open, self.path(rel), os.O_RDWR)
        self.fds.append(fd)
        data = bytearray(file.data)
        for _ in range(self.rng.randrange(1, 4)):
            offset = self.rng.randrange(0, len(data) + 100)
            piece = self.rng.randbytes(self.rng.randrange(1, 5000))
            self.note(file, data, offset, piece)
            self.write_call(os.pwrite, fd, piece, offset)
            if self.rng.random() < 0.3:
                self.commit(file, bytes(data), os.fsync, fd)
        self.close(file, bytes(data), fd)

    @staticmethod
    def note(file, data, offset, piece):
        data += bytes(max(0, offset - len(data)))
        data[offset:offset + len(piece)] = piece
        file.maybe.append(bytes(data))

    def scattered(self):
        """A database: pages all over a bigger file, an fsync after each or a few. It grows into patches and slices."""
        rel = f"{self.home}/database"
        if rel not in self.tree:
            file, fd = self.create(rel)
            data = self.rng.randbytes(300_000)
            self.write_all(file, fd, data)
            self.close(file, data, fd)
        file = self.tree[rel]
        if file.kind != "file":
            return
        fd = self.call(os.open, self.path(rel), os.O_RDWR)
        self.fds.append(fd)
        data = bytearray(file.data)
        for _ in range(self.rng.randrange(2, 12)):
            for _ in range(self.rng.choice((1, 1, 3))):
                offset = self.rng.randrange(0, 80) * 4096
                piece = self.rng.randbytes(4096)
                self.note(file, data, offset, piece)
                self.write_call(os.pwrite, fd, piece, offset)
            self.commit(file, bytes(data), os.fsync, fd)
        self.close(file, bytes(data), fd)

    def copy(self):
        """By copy_file_range, as cp does it: the copy shares the source's object, or is given its bytes."""
        source = f"{self.home}/source"
        if source not in self.tree:
            file, fd = self.create(source)
            data = self.rng.randbytes(1_300_000)
            self.write_all(file, fd, data)
            self.close(file, data, fd)
        if self.tree[source].kind != "file":
            return
        data = self.tree[source].data
        file, fd = self.create(self.fresh())
        src = self.call(os.open, self.path(source), os.O_RDONLY)
        self.fds.append(src)
        file.maybe += [data[:n] for n in (0, len(data))]
        done = 0
        while done < len(data):
            n = self.call(os.copy_file_range, src, fd, len(data) - done)
            if n == 0:
                break
            done += n
            file.maybe.append(data[:done])
        self.fds.remove(src)
        self.call(os.close, src)
        if done != len(data) and not self.killed.wait(5):
            raise Failure(f"copied {done} of {len(data)} bytes")
        self.close(file, data[:done], fd)

    def append(self):
        rel = self.pick()
        if rel is None:
            return
        file = self.tree[rel]
        fd = self.call(os.open, self.path(rel), os.O_WRONLY | os.O_APPEND)
        self.fds.append(fd)
        piece = self.rng.randbytes(self.rng.randrange(1, 3000))
        self.write_all(file, fd, piece, file.data)
        self.close(file, file.data + piece, fd)

    def truncate(self):
        rel = self.pick()
        if rel is None:
            return
        file = self.tree[rel]
        size = self.rng.randrange(0, len(file.data) * 5 // 4 + 10)
        data = file.data[:size] + bytes(max(0, size - len(file.data)))
        file.maybe.append(data)
        self.call(os.truncate, self.path(rel), size)
        file.data, file.maybe = data, []

    def unlink(self):
        rel = self.pick() if self.rng.random() < 0.9 else self.pick("symlink")
        if rel:
            self.change({rel: None}, os.unlink, self.path(rel))

    def unlink_open(self):
        rel = self.pick()
        if rel is None or sum(e is self.tree[rel] for e in self.tree.values()) > 1:
            return
        fd = self.call(os.open, self.path(rel), os.O_RDWR)
        self.fds.append(fd)
        file, text = self.tree[rel], b"written before the unlink"
        file.maybe.append(text + file.data[len(text):])
        self.call(os.write, fd, text)
        self.change({rel: None}, os.unlink, self.path(rel))
        self.call(os.write, fd, b"and after it")
        self.fds.remove(fd)
        self.call(os.close, fd)

    def mkdir(self):
        rel = self.fresh()
        if rel.count("/") < 6:
            self.change({rel: Folder()}, os.mkdir, self.path(rel))

    def rmdir(self):
        rel = self.pick("directory")
        if rel and not any(p.startswith(rel + "/") for p in self.tree):
            self.change({rel: None}, os.rmdir, self.path(rel))

    def rename(self):
        rel = self.pick(self.rng.choice(("file", "file", "directory", "symlink")))
        target = self.fresh()
        if rel is None or target.startswith(rel + "/"):
            return
        after = {rel: None, target: self.tree[rel]}
        for path, entry in self.tree.items():
            if path.startswith(rel + "/"):
                after[path] = None
                after[target + path[len(rel):]] = entry
        self.change(after, os.rename, self.path(rel), self.path(target))

    def exchange(self):
        one, two = self.pick(), self.pick()
        if one and two and one != two and self.tree[one] is not self.tree[two]:
            self.change({one: self.tree[two], two: self.tree[one]}, mfs.renameat2, self.path(one), self.path(two),
                        mfs.RENAME_EXCHANGE)

    def link(self):
        rel, target = self.pick(), self.fresh()
        if rel:
            self.change({target: self.tree[rel]}, os.link, self.path(rel), self.path(target))

    def symlink(self):
        rel = self.fresh()
        target = f"target-{self.counter}"
        self.change({rel: Symlink(target)}, os.symlink, target, self.path(rel))

    def setxattr(self):
        rel = self.pick()
        if rel is None:
            return
        file = self.tree[rel]
        name = f"user.{self.rng.choice('abc')}"
        after = dict(file.xattrs)
        if name in after and self.rng.random() < 0.4:
            del after[name]
            file.maybe_xattrs.append(after)
            self.call(os.removexattr, self.path(rel), name)
        else:
            after[name] = self.rng.randbytes(self.rng.randrange(0, 300))
            file.maybe_xattrs.append(after)
            self.call(os.setxattr, self.path(rel), name, after[name])
        file.xattrs, file.maybe_xattrs = after, []

    def chmod(self):
        rel = self.pick()
        if rel:
            file = self.tree[rel]
            mode = self.rng.choice((0o600, 0o640, 0o755, 0o4711))
            file.maybe_modes.append(mode)
            self.call(os.chmod, self.path(rel), mode)
            file.mode, file.maybe_modes = mode, []

    WORK = [(new_file, 14), (save_by_rename, 12), (rewrite, 6), (change_inside, 8), (append, 6), (scattered, 4), (copy, 4), (truncate, 4),
            (unlink, 6), (unlink_open, 3), (mkdir, 5), (rmdir, 3), (rename, 10), (exchange, 3), (link, 4),
            (symlink, 3), (setxattr, 6), (chmod, 4)]

    def run(self, root, killed):
        self.root, self.killed, self.fds = root, killed, []
        try:
            if self.home not in self.tree:
                self.change({self.home: Folder()}, os.mkdir, self.path(self.home))
            works, weights = zip(*self.WORK)
            while not self.killed.is_set():
                work = self.rng.choices(works, weights)[0]
                self.last = work.__name__
                if len(self.tree) > 150 and work in (Writer.new_file, Writer.link, Writer.symlink, Writer.mkdir):
                    work = self.rng.choice((Writer.unlink, Writer.rmdir))
                work(self)
        except Killed:
            pass
        except Exception as error:  # judged by the main thread
            self.error = f"writer {self.number}, {self.last}: {type(error).__name__}: {error}"
        # A close(2) is a commit, and none of these is in the record: not before the daemon is dead.
        self.killed.dead.wait(60)
        for fd in self.fds:
            try:
                os.close(fd)
            except OSError:
                pass

    # ---- the judgement

    def choose(self, root):
        """Did the call in flight happen? By names only; content is judged afterwards."""
        if self.pending is None:
            return
        names = {p: os.path.lexists(os.path.join(root, p)) for p in self.pending}
        before = {p: p in self.tree for p in self.pending}
        after = {p: e is not None for p, e in self.pending.items()}
        if names == after and names == before:  # an exchange, or a rename over an existing name
            self.pending = self._by_content(root)
        elif names == after:
            pass
        elif names == before:
            self.pending = {}
        else:
            raise Failure(f"writer {self.number}: {self.last} happened in part: found {names}, "
                          f"before {before}, after {after}")
        self.settle(self.pending)

    def _by_content(self, root):
        wrong = {}
        for path, entry in self.pending.items():
            if entry is not None:
                st = os.lstat(os.path.join(root, path))
                wrong[path] = entry.problem(os.path.join(root, path), st)
        if not any(wrong.values()):
            return self.pending
        return {}

    def verify(self, root, found):
        problems = []
        for path, entry in self.tree.items():
            if path not in found:
                problems.append(f"{path}: {entry.kind} is missing")
                continue
            full = os.path.join(root, path)
            try:
                problem = entry.problem(full, found.pop(path))
                problems += [f"{path}: {problem}"] if problem else []
            except OSError as error:
                problems.append(f"{path}: a name without its data: {error}")
        return problems


def listing(root):
    """Every name with its lstat."""
    found = {}
    for where, folders, files in os.walk(root):
        for name in folders + files:
            full = os.path.join(where, name)
            found[os.path.relpath(full, root)] = os.lstat(full)
    return found


def verify_links(writers, found):
    problems = []
    for writer in writers:
        names = {}
        for path, entry in writer.tree.items():
            if entry.kind == "file":
                names.setdefault(id(entry), []).append(path)
        for paths in names.values():
            inodes = {found[p].st_ino for p in paths if p in found}
            counts = {found[p].st_nlink for p in paths if p in found}
            if len(inodes) > 1 or (counts and counts != {len(paths)}):
                problems.append(f"{paths}: inodes {inodes}, nlink {counts}, want {len(paths)}")
    return problems


def judge(writers, root, foreign=None):
    """Compare the mount with all records. foreign: what others put among the objects, whole or not there yet."""
    found = listing(root)
    found.pop(IMPORTED, None)
    problems = []
    for path in [p for p in found if p.startswith(IMPORTED + "/")]:
        # A new file is made before its content is committed, as by any program.
        if mfs.get(os.path.join(root, path)) not in ((foreign or {}).get(path), b""):
            problems.append(f"{path} is not what was put among the objects")
        del found[path]
    for writer in writers:
        try:
            writer.choose(root)
        except Failure as error:
            problems.append(str(error))
            writer.pending = None
    problems += verify_links(writers, dict(found))
    rest = dict(found)
    for name in SHARED:
        rest.pop(name, None)
    for writer in writers:
        problems += writer.verify(root, rest)
    problems += [f"{path}: nobody made this name" for path in rest]
    for writer in writers:
        for path, entry in writer.tree.items():
            if path in found and not problems:
                entry.adopt(os.path.join(root, path), found[path])
    return problems


def judge_objects(writers, volume):
    """With the volume unmounted each file lies at objects/<one of its names>, and nothing else does."""
    problems, expected = [], set()
    for writer in writers:
        names = {}
        for path, entry in writer.tree.items():
            if entry.kind == "file":
                names.setdefault(id(entry), (entry, []))[1].append(path)
        for entry, paths in names.values():
            expected.update(paths)
            contents = [mfs.get(volume.object(p)) for p in paths if os.path.isfile(volume.object(p))]
            # A file that was made and never closed has no object yet: it is empty.
            if entry.data not in contents and (entry.data or contents):
                problems.append(f"objects/{paths[0]}: {len(paths)} names, want {len(entry.data)} bytes"
                                f"{' of zeros' if not any(entry.data) else ''}, found {[len(c) for c in contents]}; "
                                + volume.suite.massfs("info", "--volume", volume.dir, paths[0], ok=None)[1])
    for where, _, files in os.walk(f"{volume.dir}/objects"):
        for name in files:
            path = os.path.relpath(os.path.join(where, name), f"{volume.dir}/objects")
            if path not in expected and not path.startswith((".massfs", IMPORTED + "/")):
                problems.append(f"objects/{path}: the index knows no such file")
    return problems


class Crash:
    def __init__(self, suite):
        self.suite = suite
        self.garbage = 0
        self.calls = 0
        self.points = [] if suite.plain else crash_points(suite)
        self.reached = {}
        os.environ["MASSFS_TEST_GC_AGE"] = suite.env["MASSFS_TEST_GC_AGE"] = "0"
        os.environ["MASSFS_TEST_SLICES_MAX"] = suite.env["MASSFS_TEST_SLICES_MAX"] = "24"  # the database's are composed
        os.environ["MASSFS_TEST_KEEP_MIN"] = suite.env["MASSFS_TEST_KEEP_MIN"] = "1"  # uploads of the reconciler are kept

    def run(self):
        rounds = self.suite.args.rounds or (200 if self.suite.long else 10)
        if not self.points:
            print("       no crash points in this build: random moments only", flush=True)
        for number in range(rounds):
            if number % 5 == 0:
                self.start_volume(number)
            self.round(number)
            if self.suite.failures:
                return
        print(f"{rounds} rounds, {self.calls} calls, {self.garbage} pieces of garbage collected; died at "
              + (", ".join(f"{p} {n}x" for p, n in sorted(self.reached.items())) or "no named point")
              + "; not reached: " + " ".join(p for p in self.points if p not in self.reached), flush=True)
        self.mount.umount()

    def opts(self):
        return self.mount_opts

    def start_volume(self, number):
        """A new volume every few rounds: old enough to have history, small enough to read in whole."""
        if number:
            self.mount.umount()
            mfs.shutil.rmtree(self.volume.dir)
        self.volume = self.suite.volume(f"volume-{number}").format()
        pick, cache = self.suite.rng.choice, self.suite.path("cache")
        os.makedirs(cache, exist_ok=True)
        self.mount_opts = ",".join(["allow_other", pick(("retention=0", "retention=1", "retention=7d")), pick(("commit=5", "commit=1")),
                                    *pick(([], [f"cache-dir={cache}", "cache-local", "cache-size=8M"])),
                                    *pick(([], [], ["inline=0"]))])
        self.mount = self.volume.mount(self.opts())
        self.writers = [Writer(n, f"{self.suite.seed} {number} {n}", self.suite.plain)
                        for n in range(N_WRITERS)]
        for name in SHARED:
            os.mkdir(os.path.join(self.mount.path, name))
        self.foreign = {}

    def choose_point(self, number):
        """Every other round the next of the named points, the Nth time; None: at a random moment."""
        if self.suite.args.point:
            return self.suite.args.point
        number += self.suite.args.first
        if not self.points or number % 2 == 0:
            return None
        rng = random.Random(f"{self.suite.seed} point {number}")
        # Each part of the long share has a --first of its own and so goes through all of them; a short one begins anywhere.
        start = number // 2 if self.suite.args.first else number // 2 + self.suite.seed
        name = self.points[start % len(self.points)]
        often = not name.startswith(("log.", "compact.", "import.", "patch.", "share."))
        return f"{name}:{rng.choice((1, 2, rng.randrange(1, 10), rng.randrange(1, 60)) if often else (1, 1, 2))}"

    def put_foreign(self):
        """Another program's files among the objects."""
        for _ in range(3):
            name = f"{IMPORTED}/f{len(self.foreign)}"
            path = os.fsdecode(self.volume.object(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.foreign[name] = mfs.noise(f"{self.suite.seed} {name}", 20_000)
            mfs.put(path + ".part", self.foreign[name])
            os.rename(path + ".part", path)

    def housekeeping(self, killed):
        """The reconciler and gc beside the writers. They may fail when the daemon dies, and only then."""
        rng = random.Random(f"{self.suite.seed} housekeeping")
        verbs = [["settle", "--wait"], ["settle"], ["gc", "--delete"]]
        if self.point and self.point.startswith("import."):
            verbs = [["import"], ["import"], *verbs]
        while not killed.wait(rng.uniform(0.02, 0.4)):
            verb = rng.choice(verbs)
            if verb == ["import"]:
                self.put_foreign()
            done = subprocess.run([*self.suite.command(), *verb, self.mount.path], stdin=subprocess.DEVNULL,
                                  capture_output=True, timeout=120, check=False)
            if done.returncode and not killed.wait(5):
                self.house_error = f"massfs {verb}: {done.returncode}: {done.stderr.decode()[-2000:]}"
                return

    def work_and_kill(self, number):
        """The writers work until the daemon dies: at the point, or when the time is over."""
        rng = random.Random(f"{self.suite.seed} kill {number}")
        self.house_error = None
        killed = threading.Event()  # calls fail from here on
        killed.dead = threading.Event()  # the daemon is no more
        threads = [threading.Thread(target=w.run, args=(self.mount.path, killed), daemon=True) for w in self.writers]
        if not self.suite.plain:
            threads.append(threading.Thread(target=self.housekeeping, args=(killed,), daemon=True))
        for thread in threads:
            thread.start()
        by_term = self.point and self.point.startswith("log.")
        delay = (5 if self.point and not by_term else rng.uniform(0.05, 2.5)) * (3 if self.suite.sanitizer else 1)
        start = time.monotonic()
        while time.monotonic() < start + delay and self.mount.alive():
            time.sleep(0.005)
        killed.set()
        if by_term and self.mount.alive():
            os.kill(self.mount.pid, signal.SIGTERM)  # the log is written each minute, and before the end
            mfs.wait_for(lambda: not self.mount.alive(), 60, "the end of the daemon after SIGTERM")
        died = not self.mount.alive()
        if not self.suite.plain:
            self.mount.kill()
        killed.dead.set()
        for thread in threads:
            thread.join(60)
            check(not thread.is_alive(), "a writer hangs in the dead mount")
        for writer in self.writers:
            if writer.error:
                raise Failure(writer.error)
            self.calls += writer.calls
            writer.calls = 0
        check(not self.house_error, self.house_error)
        if died and by_term and self.mount.process.returncode == 0:
            died = False
        if died:
            check(self.point and self.mount.process.returncode == -9,
                  f"the daemon died by itself, code {self.mount.process.returncode}: {self.mount.log_text()[-3000:]}")
            name = self.point.split(":")[0]
            self.reached[name] = self.reached.get(name, 0) + 1
        return f"{'at ' + self.point if died else 'ended' if by_term else 'killed'} after {time.monotonic() - start:.2f} s"

    def mend_and_kill(self, number, died):
        """The volume's own repairs die as well, at some point, before they may run to their end."""
        rng = random.Random(f"{self.suite.seed} mend {number}")
        again = self.point and not died  # some points are come by only here
        if not self.points or (rng.random() < 0.5 and not again):
            return
        name = self.point.split(":")[0] if again else rng.choice(self.points)
        env = {**self.suite.env, "MASSFS_CRASH_AT": f"{name}:{rng.choice((1, 1, 2, rng.randrange(1, 9)))}"}
        for verb in (["settle", "--wait"], ["gc", "--delete"]):
            rc, _ = self.suite.massfs(*verb, self.volume.dir, ok=(0, -9), env=env)
            if rc:
                self.reached[name] = self.reached.get(name, 0) + 1

    def report(self, number, when, problems):
        if problems:
            for problem in problems[:10]:
                print(f"       {problem}", flush=True)
            raise Failure(f"round {number}, {when}: {len(problems)} broken promises, first: {problems[0]}")

    def round(self, number):
        self.point = self.choose_point(number)
        for writer in self.writers:
            writer.big_share = 0.25 if self.point and self.point.startswith(("upload.", "compose.")) else 0.03
        if self.point:  # the daemon that runs knows nothing of the point
            if self.point.startswith("log.snapshot"):  # written after a session that did not end
                self.mount.kill()
                mfs.run(["umount", "-l", self.mount.path], ok=None)
            else:
                self.mount.umount()
            try:
                self.mount = self.volume.mount(self.opts(), path=self.mount.path,
                                               env={**self.suite.env, "MASSFS_CRASH_AT": self.point})
            except mfs.MountError as error:  # work that was left over came by the point before anybody looked
                if error.rc != -9:
                    raise
                name = self.point.split(":")[0]
                self.reached[name] = self.reached.get(name, 0) + 1
                self.point = None
                mfs.run(["umount", "-l", self.mount.path], ok=None)
                self.mount = self.volume.mount(self.opts(), path=self.mount.path)
        how = self.work_and_kill(number)
        if self.suite.plain:
            self.report(number, "after the kill", judge(self.writers, self.mount.path, self.foreign))
            return
        if number % 2:  # the other rounds mount over the dead one: massfs has to clean it
            mfs.run(["umount", "-l", self.mount.path], ok=None)
            self.mend_and_kill(number, died="at " in how)
        self.mount = self.volume.mount(self.opts(), path=self.mount.path)
        self.report(number, f"{how}, after the kill", judge(self.writers, self.mount.path, self.foreign))
        self.volume.settle(self.mount)
        if self.foreign:
            self.suite.massfs("import", self.mount.path)
            for name, data in self.foreign.items():
                check(mfs.get(f"{self.mount.path}/{name}") == data, f"{name} is not what was put among the objects")
        self.mount.umount()
        self.report(number, f"{how}, in objects/", judge_objects(self.writers, self.volume))
        self.volume.fsck()
        found = self.volume.collect()
        self.garbage += found
        self.volume.fsck()
        self.mount = self.volume.mount(self.opts(), path=self.mount.path)
        self.report(number, f"{how}, after gc --delete", judge(self.writers, self.mount.path, self.foreign))
        names = sum(len(w.tree) for w in self.writers)
        print(f"ok     round {number}: {how}, {names} names, {found} garbage", flush=True)


def body(suite):
    Crash(suite).run()


def add_args(parser):
    parser.add_argument("--rounds", type=int, default=0, help="kill -9 so many times")
    parser.add_argument("--first", type=int, default=0, help="number of the first round: which crash points come")
    parser.add_argument("--point", help="NAME:N, in each round this crash point")


if __name__ == "__main__":
    mfs.main("crash", __doc__, body, add_args)
