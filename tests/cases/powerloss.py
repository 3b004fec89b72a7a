#!/usr/bin/env python3
"""Power loss: a volume on ext4 on a disk that remembers its writes, and then the disk as it may be left at any moment.

tests/powerloss/blockfile is the disk: one file of a small FUSE filesystem, which logs each write and each flush. On it a
loop device, ext4, and on that a volume (index, objects, cache folder), mounted, with a recorded workload. The record says
of each system call between which lengths of the log it ran, and whether its success makes durable what was done so far.

An image is the disk after a power loss at some place X of the log: all that was written before the last flush, and of what
came after it any part: nothing (the images at a flush), or a random choice of the writes, some of them torn at sectors
of 512 bytes. ext4 recovers its journal, massfs its index. Then, for each writer (each has a directory of its own):

    the tree is, as a whole and to the byte, what it was after one of the writer's calls: not before the last call that
    ended before X and promised durability (close, fsync), not after the last one that began before X.

That is promise 1 (durable at close), 2 (no mixture) and 3 (a change is whole, and changes are lost from the end only) at
once. Then settle --wait, objects/ byte for byte, fsck, gc --delete, and everything once more.
"""
import bisect
import hashlib
import os
import random
import stat
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import loopdev
import mfs
from mfs import Failure, Skip, check, run

DISK = 1 << 30
LOG_MAX = 700 << 20  # in memory
WRITE, FLUSH = 0x57524954, 0x464c5553
SECTOR = 512
N_WRITERS = 4
OPTS = "allow_other"


# ---- the record


def digest(data):
    return hashlib.sha1(data).hexdigest()[:16] + f":{len(data)}"


class Entry:
    """A name as the model has it. maybe: contents of a file being written that a commit by itself may have stored."""
    __slots__ = ("kind", "node", "mode", "value", "maybe")

    def __init__(self, kind, node, mode, value, maybe=()):
        self.kind, self.node, self.mode, self.value, self.maybe = kind, node, mode, value, maybe

    def but(self, **new):
        return Entry(**{"kind": self.kind, "node": self.node, "mode": self.mode, "value": self.value,
                        "maybe": self.maybe, **new})


class Step:
    """One call: it ran between two lengths of the log, and afterwards the writer's tree was `state`."""
    __slots__ = ("start", "end", "durable", "state", "what")

    def __init__(self, start, durable, state, what):
        self.start, self.end, self.durable, self.state, self.what = start, None, durable, state, what


class Writer:
    def __init__(self, number, root, seed, position, stop):
        self.number, self.position, self.stop = number, position, stop
        self.rng = random.Random(seed)
        self.root = f"{root}/w{number}"
        self.state = {}
        self.data = {}      # node -> what its open handle would read
        self.contents = {}  # digest -> bytes, of what files were while they were written
        self.dirty = set()  # nodes whose next close commits
        self.steps = [Step(0, False, {}, "start")]
        self.steps[0].end = 0
        self.counter = 0
        self.error = None

    # ---- one call

    def act(self, what, after, durable, call, *args):
        step = Step(self.position(), durable, after, what)
        self.steps.append(step)
        result = call(*args)
        step.end = self.position()
        self.state = after
        return result

    def names(self, change):
        """The state with some names changed; None takes a name away."""
        after = dict(self.state)
        for path, entry in change.items():
            after.pop(path, None) if entry is None else after.__setitem__(path, entry)
        return after

    def of_node(self, node, **new):
        return self.names({p: e.but(**new) for p, e in self.state.items() if e.node == node})

    def full(self, rel):
        return f"{self.root}/{rel}"

    # ---- choosing

    def fresh(self):
        self.counter += 1
        folders = [p for p, e in self.state.items() if e.kind == "dir"][:8]
        where = self.rng.choice(["", "", *folders])
        return f"{where}/n{self.counter}".lstrip("/")

    def pick(self, kind="file"):
        found = [p for p, e in self.state.items() if e.kind == kind and p != "big"]
        return self.rng.choice(found) if found else None

    def content(self):
        kind = self.rng.random()
        if kind < 0.02:
            size = self.rng.randrange(5 << 20, 7 << 20)
        elif kind < 0.6:
            size = self.rng.randrange(0, 17_000)
        else:
            size = self.rng.randrange(0, 150_000)
        return self.rng.randbytes(size)

    # ---- content

    def write(self, fd, node, offset, piece):
        data = self.data[node]
        entry = next(e for e in self.state.values() if e.node == node)
        maybe = entry.maybe or (self.keep(data),)
        data += bytes(max(0, offset - len(data)))
        data[offset:offset + len(piece)] = piece
        after = self.of_node(node, maybe=(*maybe[-20:], self.keep(data)))
        done = self.act("write", after, False, os.pwrite, fd, piece, offset)
        check(done == len(piece), "short write")
        self.dirty.add(node)

    def keep(self, data):
        name = digest(data)
        self.contents[name] = bytes(data)
        return name

    def commit(self, what, fd, node):
        """close or fsync. A close with nothing to commit promises nothing about the names before it."""
        call = os.close if what == "close" else os.fsync
        durable = what == "fsync" or node in self.dirty
        self.dirty.discard(node)
        self.act(what, self.of_node(node, value=digest(self.data[node]), maybe=()), durable, call, fd)

    def write_in_pieces(self, fd, node, data):
        step = max(4096, len(data) // self.rng.randrange(1, 5))
        for start in range(0, len(data), step):
            self.write(fd, node, start, data[start:start + step])
        if self.rng.random() < 0.25:
            self.commit("fsync", fd, node)

    def create(self, rel):
        self.counter += 1
        node = self.counter
        self.data[node] = bytearray()
        self.dirty.add(node)
        entry = Entry("file", node, 0o644, digest(b""))
        fd = self.act("create", self.names({rel: entry}), False, os.open, self.full(rel),
                      os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        return fd, node, entry

    def new_file(self):
        fd, node, _ = self.create(self.fresh())
        self.write_in_pieces(fd, node, self.content())
        self.commit("close", fd, node)

    def save_by_rename(self):
        target = self.pick() or self.fresh()
        temporary = f"{target}.tmp{self.rng.randrange(1000)}"
        if temporary in self.state:
            return
        fd, node, _ = self.create(temporary)
        self.write_in_pieces(fd, node, self.content())
        late = self.rng.random() < 0.2
        if not late:
            self.commit("close", fd, node)
        entry = self.state[temporary]
        self.act("rename over", self.names({temporary: None, target: entry}), False, os.rename, self.full(temporary),
                 self.full(target))
        if late:
            self.commit("close", fd, node)

    def open_old(self, flags):
        rel = self.pick()
        if rel is None:
            return None, None, None
        return rel, self.state[rel].node, os.open(self.full(rel), flags)

    def rewrite(self):
        rel, node, fd = self.open_old(os.O_WRONLY | os.O_TRUNC)
        if rel:
            self.data[node] = bytearray()
            self.dirty.add(node)
            self.write_in_pieces(fd, node, self.content())
            self.commit("close", fd, node)

    def change_inside(self):
        rel, node, fd = self.open_old(os.O_RDWR)
        if rel is None:
            return
        for _ in range(self.rng.randrange(1, 4)):
            offset = self.rng.randrange(0, len(self.data[node]) + 100)
            self.write(fd, node, offset, self.rng.randbytes(self.rng.randrange(1, 6000)))
            if self.rng.random() < 0.3:
                self.commit("fsync", fd, node)
        self.commit("close", fd, node)

    def append(self):
        rel, node, fd = self.open_old(os.O_WRONLY)
        if rel:
            self.write(fd, node, len(self.data[node]), self.rng.randbytes(self.rng.randrange(1, 3000)))
            self.commit("close", fd, node)

    def scattered(self):
        """A database: pieces of 4 KiB all over a bigger file, an fsync after each few."""
        if "big" not in self.state:
            fd, node, _ = self.create("big")
            self.write(fd, node, 0, self.rng.randbytes(1 << 20))
            self.commit("close", fd, node)
        node = self.state["big"].node
        fd = os.open(self.full("big"), os.O_RDWR)
        for _ in range(self.rng.randrange(3, 15)):
            for _ in range(self.rng.choice((1, 1, 1, 3))):
                self.write(fd, node, self.rng.randrange(0, 256) * 4096, self.rng.randbytes(4096))
            self.commit("fsync", fd, node)
        self.commit("close", fd, node)

    def truncate(self):
        rel = self.pick()
        if rel is None:
            return
        node = self.state[rel].node
        size = self.rng.randrange(0, len(self.data[node]) * 5 // 4 + 10)
        data = self.data[node][:size]
        data += bytes(size - len(data))
        self.data[node] = data
        self.act("truncate", self.of_node(node, value=digest(data)), False, os.truncate, self.full(rel), size)

    # ---- names

    def unlink(self):
        rel = self.pick() if self.rng.random() < 0.9 else self.pick("link")
        if rel:
            self.act("unlink", self.names({rel: None}), False, os.unlink, self.full(rel))

    def mkdir(self):
        rel = self.fresh()
        if rel.count("/") < 4:
            self.counter += 1
            self.act("mkdir", self.names({rel: Entry("dir", self.counter, 0o755, "")}), False, os.mkdir,
                     self.full(rel), 0o755)

    def rmdir(self):
        rel = self.pick("dir")
        if rel and not any(p.startswith(rel + "/") for p in self.state):
            self.act("rmdir", self.names({rel: None}), False, os.rmdir, self.full(rel))

    def rename(self):
        rel, target = self.pick(self.rng.choice(("file", "file", "dir", "link"))), self.fresh()
        if rel is None or target.startswith(rel + "/"):
            return
        change = {}
        for path, entry in self.state.items():
            if path == rel or path.startswith(rel + "/"):
                change[path] = None
                change[target + path[len(rel):]] = entry
        self.act("rename", self.names(change), False, os.rename, self.full(rel), self.full(target))

    def exchange(self):
        one, two = self.pick(), self.pick()
        if one and one != two:
            self.act("exchange", self.names({one: self.state[two], two: self.state[one]}), False, mfs.renameat2,
                     self.full(one), self.full(two), mfs.RENAME_EXCHANGE)

    def link(self):
        rel, target = self.pick(), self.fresh()
        if rel:
            self.act("link", self.names({target: self.state[rel]}), False, os.link, self.full(rel), self.full(target))

    def symlink(self):
        rel = self.fresh()
        self.counter += 1
        self.act("symlink", self.names({rel: Entry("link", self.counter, 0, f"to-{self.counter}")}), False, os.symlink,
                 f"to-{self.counter}", self.full(rel))

    def chmod(self):
        rel = self.pick()
        if rel:
            mode = self.rng.choice((0o600, 0o640, 0o755))
            self.act("chmod", self.of_node(self.state[rel].node, mode=mode), False, os.chmod, self.full(rel), mode)

    def sync_folder(self):
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        self.act("fsync of the directory", self.state, True, os.fsync, fd)
        os.close(fd)

    WORK = [(new_file, 12), (save_by_rename, 10), (rewrite, 6), (change_inside, 8), (append, 6), (scattered, 4),
            (truncate, 5), (unlink, 8), (mkdir, 4), (rmdir, 2), (rename, 8), (exchange, 3), (link, 3), (symlink, 2),
            (chmod, 3), (sync_folder, 1)]

    def run(self):
        try:
            os.mkdir(self.root)
            works, weights = zip(*self.WORK)
            while not self.stop.is_set():
                work = self.rng.choices(works, weights)[0]
                if len(self.state) > 45 and work in (Writer.new_file, Writer.link, Writer.symlink, Writer.mkdir):
                    work = self.rng.choice((Writer.unlink, Writer.rmdir))
                work(self)
        except Exception as error:  # judged by the main thread
            self.error = f"writer {self.number}: {type(error).__name__}: {error}"

    # ---- the judgement

    def is_between(self, path, maybe):
        return len(maybe) > 1 and mfs.is_between(mfs.get(f"{self.judged}/{path}"), [self.contents[m] for m in maybe])

    def judge(self, found, at, root):
        """found: path -> what(). The step that it is, or a Failure that says by how little it is none."""
        first = max((n for n, s in enumerate(self.steps) if s.durable and s.end is not None and s.end <= at), default=0)
        last = max(n for n, s in enumerate(self.steps) if s.start <= at)
        nearest, self.judged = None, root
        for number in range(first, last + 1):
            wrong = differences(found, self.steps[number].state, self.is_between)
            if not wrong:
                return number - first
            if nearest is None or len(wrong) < len(nearest[1]):
                nearest = number, wrong
        number, wrong = nearest
        step = self.steps[number]
        raise Failure(f"writer {self.number}: the tree is none of steps {first} ({self.steps[first].what}) to {last} "
                      f"({self.steps[last].what}); nearest is {number} ({step.what}, log {step.start} to {step.end}), "
                      f"with {len(wrong)} differences: " + "; ".join(wrong[:6]))


def look(root):
    """Every name below root, as Writer.judge compares it."""
    found = {}
    for where, folders, files in os.walk(root):
        for name in folders + files:
            full = os.path.join(where, name)
            st = os.lstat(full)
            if stat.S_ISDIR(st.st_mode):
                value = ("dir", st.st_ino, stat.S_IMODE(st.st_mode), "")
            elif stat.S_ISLNK(st.st_mode):
                value = ("link", st.st_ino, 0, os.readlink(full))
            else:
                data = mfs.get(full)
                check(len(data) == st.st_size, f"{full}: st_size {st.st_size}, but {len(data)} bytes")
                value = ("file", st.st_ino, stat.S_IMODE(st.st_mode), digest(data), st.st_nlink)
            found[os.path.relpath(full, root)] = value
    return found


def differences(found, state, is_between):
    wrong = [f"{p} is missing" for p in state if p not in found]
    wrong += [f"{p} should not be there" for p in found if p not in state]
    nodes = {}
    for path, entry in state.items():
        if path not in found:
            continue
        kind, ino, mode, value = found[path][:4]
        nodes.setdefault(entry.node, []).append((path, ino))
        if kind != entry.kind or mode != entry.mode:
            wrong.append(f"{path} is a {kind} of mode {mode:o}, not a {entry.kind} of mode {entry.mode:o}")
        elif value != entry.value and value not in entry.maybe and not is_between(path, entry.maybe):
            wrong.append(f"{path} has {value}, not {entry.value}" + (f" nor {entry.maybe}" if entry.maybe else ""))
    for names in nodes.values():
        if len({ino for _, ino in names}) > 1:
            wrong.append(f"{[p for p, _ in names]} are not one file")
        if len(found[names[0][0]]) > 4 and found[names[0][0]][4] != len(names):
            wrong.append(f"{names[0][0]} has nlink {found[names[0][0]][4]}, want {len(names)}")
    return wrong


# ---- the disk


class Log:
    """The entries of blockfile's log."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.entries = []   # (place in the log where it ends, kind, offset, length, place of the data)
        size, at = os.stat(path).st_size, 0
        while at < size:
            kind, length, offset = struct.unpack("=IIQ", os.pread(self.file.fileno(), 16, at))
            check(kind in (WRITE, FLUSH), f"the log is broken at {at}")
            self.entries.append((at + 16 + length, kind, offset, length, at + 16))
            at += 16 + length
        check(at == size, "the log is cut")
        self.ends = [e[0] for e in self.entries]
        self.flushes = [n for n, e in enumerate(self.entries) if e[1] == FLUSH]

    def after(self, place):
        """Number of the first entry that ends behind this place."""
        return bisect.bisect_right(self.ends, place)

    def data(self, entry):
        return os.pread(self.file.fileno(), entry[3], entry[4])


class Base:
    """The disk with the first n entries on it; n only grows."""

    def __init__(self, log, path):
        self.log, self.path, self.n = log, path, 0
        loopdev.make_file(path, DISK)
        self.fd = os.open(path, os.O_RDWR)

    def advance(self, n):
        for entry in self.log.entries[self.n:n]:
            if entry[1] == WRITE:
                os.pwrite(self.fd, self.log.data(entry), entry[2])
        self.n = max(self.n, n)

    def copy(self, path):
        run(["cp", "--sparse=always", self.path, path])
        return path


class Image:
    """One power loss: everything up to the last flush before entry n, and a part of the entries from there to n."""

    def __init__(self, log, n, seed, lie=0):
        self.log, self.n, self.seed = log, n, seed
        place = max(0, bisect.bisect_left(log.flushes, n) - lie)
        self.flush = log.flushes[place - 1] + 1 if place else 0
        self.at = log.ends[n - 1]

    def write_rest(self, path):
        """Onto the disk as it was at the last flush; the same each time."""
        self.rng = random.Random(self.seed)
        self.kept = self.torn = 0
        rest = [e for e in self.log.entries[self.flush:self.n] if e[1] == WRITE]
        share = self.rng.choice((0.1, 0.5, 0.9, 1.0))
        fd = os.open(path, os.O_WRONLY)
        for entry in rest:
            if self.rng.random() >= share:
                continue
            data = self.log.data(entry)
            if self.rng.random() < 0.25:
                self.torn += 1
                self.write_torn(fd, entry[2], data)
            else:
                self.kept += 1
                os.pwrite(fd, data, entry[2])
        os.close(fd)
        self.of = len(rest)

    def write_torn(self, fd, offset, data):
        n_sectors = len(data) // SECTOR
        first = self.rng.randrange(0, n_sectors + 1)
        scattered = self.rng.random() < 0.5
        for sector in range(n_sectors):
            if (self.rng.random() < 0.5) if scattered else sector < first:
                os.pwrite(fd, data[sector * SECTOR:(sector + 1) * SECTOR], offset + sector * SECTOR)

    def text(self):
        return f"log {self.at}: {self.kept} whole and {self.torn} torn of {self.of} writes since the last flush"


class PowerLoss:
    def __init__(self, suite):
        self.suite = suite
        self.ram = suite.path("ram")
        os.makedirs(self.ram)
        run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", self.ram])
        self.log_path = f"{self.ram}/log"
        os.environ["MASSFS_TEST_GC_AGE"] = suite.env["MASSFS_TEST_GC_AGE"] = "0"
        self.cycle = 0

    # ---- the recording

    def blockfile(self):
        tool = f"{self.suite.build}/tests/powerloss/blockfile"
        if not os.access(tool, os.X_OK):
            raise Failure(f"{tool} is not built")
        where = self.suite.path("blockfile")
        os.makedirs(where, exist_ok=True)
        self.disk = subprocess.Popen([tool, self.log_path, str(DISK), where], stdin=subprocess.DEVNULL)
        mfs.wait_for(lambda: os.path.exists(f"{where}/disk"), 20, "the disk")
        return f"{where}/disk"

    def position(self):
        return os.stat(self.log_path).st_size

    def housekeeping(self, mount, stop):
        """The reconciler and gc, again and again, beside the writers."""
        rng = random.Random(f"{self.suite.seed} housekeeping")
        while not stop.wait(rng.uniform(0.05, 0.6)):
            try:
                if rng.random() < 0.7:
                    self.suite.massfs("settle", *(["--wait"] if rng.random() < 0.5 else []), mount.path, timeout=120)
                else:
                    self.suite.massfs("gc", "--delete", mount.path, timeout=120)
            except Exception as error:
                self.house_error = f"{type(error).__name__}: {error}"
                return

    def record(self, seconds):
        ext4 = loopdev.mount(self.blockfile(), self.suite.path("ext4"), direct_io=True)
        os.mkdir(f"{ext4}/cache")
        volume = mfs.Volume(self.suite, "volume", f"{ext4}/volume").format()
        pick = self.suite.rng.choice
        self.opts = ",".join([OPTS, pick(("retention=0", "retention=1", "retention=7d")), pick(("commit=5", "commit=1")),
                              *pick(([], [f"cache-dir={ext4}/cache", "cache-local", "cache-size=8M"])),
                              *pick(([], [], ["inline=0"]))])
        mount = volume.mount(self.opts)
        run(["sync", "-f", ext4])
        self.first = self.position()
        stop, self.house_error = threading.Event(), None
        self.writers = [Writer(n, mount.path, f"{self.suite.seed} {self.cycle} {n}", self.position, stop)
                        for n in range(N_WRITERS)]
        threads = [threading.Thread(target=w.run, daemon=True) for w in self.writers]
        threads.append(threading.Thread(target=self.housekeeping, args=(mount, stop), daemon=True))
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.position() < LOG_MAX:
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join(180)
            check(not thread.is_alive(), "a writer hangs")
        for error in [self.house_error, *[w.error for w in self.writers]]:
            check(not error, f"without any power loss: {error}")
        mount.umount()
        self.last = self.position()
        for writer in self.writers:
            shown = look(f"{mount.path}")  # the mount point is an empty directory now
            check(not shown, f"still mounted? {list(shown)[:3]}")
            writer.root = os.path.basename(writer.root)
        run(["umount", ext4])
        run(["umount", self.suite.path("blockfile")])
        self.disk.wait(timeout=60)
        self.log = Log(self.log_path)

    # ---- the images

    def choose(self, count):
        """Half of them at flushes, half between two flushes; in the order of the log."""
        low, high = self.log.after(self.first), self.log.after(self.last)
        flushes = [n + 1 for n in self.log.flushes if low <= n < high]
        others = [n + 1 for n in range(low, high) if self.log.entries[n][1] == WRITE]
        check(len(flushes) >= 10 and others, f"only {len(flushes)} flushes were recorded: too little to judge by")
        rng = self.suite.rng
        chosen = rng.sample(flushes, min(len(flushes), count // 2))
        chosen += rng.sample(others, min(len(others), count - len(chosen)))
        return [Image(self.log, n, f"{self.suite.seed} {n}", self.suite.args.lie) for n in sorted(chosen)]

    def check_images(self, count):
        base = Base(self.log, f"{self.ram}/base")
        lost = 0
        for number, image in enumerate(self.choose(count)):
            base.advance(image.flush)
            path = base.copy(f"{self.ram}/image")
            image.write_rest(path)
            try:
                lost += self.check_image(path, image, number)
            except Exception as error:
                image.write_rest(base.copy(self.suite.path("image")))
                raise Failure(f"image {number}, {image.text()}: {type(error).__name__}: {error}\n"
                              f"the disk as the power loss left it: {self.suite.path('image')}") from error
        os.close(base.fd)
        return lost

    def check_image(self, path, image, number):
        ext4 = loopdev.mount(path, self.suite.path("ext4"), make=False)
        volume = mfs.Volume(self.suite, f"image{number}", f"{ext4}/volume")
        volume.fsck()
        mount = volume.mount(self.opts, path=self.suite.path("mnt"))
        behind, trees = 0, {}
        for writer in self.writers:
            trees[writer.root] = look(f"{mount.path}/{writer.root}")
            behind += writer.judge(trees[writer.root], image.at, f"{mount.path}/{writer.root}")
        volume.settle(mount)
        mount.umount()
        volume.fsck()
        self.check_objects(volume, trees)
        if number % 2:
            self.check_gc(volume, trees)
        run(["umount", ext4])
        os.unlink(mount.log)
        os.unlink(path)
        print(f"ok     image {number}, {image.text()}; {behind} calls more than promised", flush=True)
        return behind

    def check_objects(self, volume, trees):
        """Each file at objects/<one of its names>, and no other."""
        expected, nodes = set(), {}
        for root, tree in trees.items():
            for path, value in tree.items():
                if value[0] == "file":
                    expected.add(f"{root}/{path}")
                    nodes.setdefault(value[1], (value[3], []))[1].append(f"{root}/{path}")
        for want, paths in nodes.values():
            there = [volume.object(p) for p in paths if os.path.isfile(volume.object(p))]
            contents = [digest(mfs.get(p)) for p in there]
            if want not in contents and (contents or not want.endswith(":0")):
                raise Failure(f"objects/{paths[0]} after settle --wait: {contents}, want {want}; "
                              + self.suite.massfs("info", "--volume", volume.dir, paths[0], ok=None)[1])
        for where, _, files in os.walk(f"{volume.dir}/objects"):
            for name in files:
                path = os.path.relpath(os.path.join(where, name), f"{volume.dir}/objects")
                check(path in expected or path.startswith(".massfs"), f"objects/{path}: the index knows no such file")

    def check_gc(self, volume, trees):
        volume.collect()
        volume.fsck()
        mount = volume.mount(self.opts, path=self.suite.path("mnt"))
        for root, tree in trees.items():
            now = look(f"{mount.path}/{root}")
            wrong = {p for p in tree.keys() | now.keys() if tree.get(p) != now.get(p)}
            check(not wrong, f"after gc --delete and a second mount other than before: {sorted(wrong)[:5]}")
        mount.umount()
        os.unlink(mount.log)

    def run(self):
        images = self.suite.args.images or (200 if self.suite.long else 8)
        done = 0
        while done < images:
            count = min(40, images - done)
            self.record(self.suite.args.seconds)
            calls = sum(len(w.steps) for w in self.writers)
            durable = sum(s.durable for w in self.writers for s in w.steps)
            print(f"       recorded: {calls} calls, {durable} promised durability, {len(self.log.entries)} writes of "
                  f"{self.last >> 20} MiB and {len(self.log.flushes)} flushes; mounted with {self.opts}", flush=True)
            behind = self.check_images(count)
            print(f"       {count} images, on each {behind / count:.1f} calls more than was promised", flush=True)
            done += count
            self.cycle += 1


def body(suite):
    if suite.plain:
        raise Skip("needs massfs: a bare directory on ext4 promises less")
    test = PowerLoss(suite)
    try:
        test.run()
    finally:
        run(["umount", "-l", test.ram])


def add_args(parser):
    parser.add_argument("--images", type=int, default=0, help="power losses to look at")
    parser.add_argument("--lie", type=int, default=0, metavar="N",
                        help="a disk that forgets N flushes: this must fail, a test of the test")
    parser.add_argument("--seconds", type=float, default=5, help="of recorded work, for each 40 images")


if __name__ == "__main__":
    mfs.main("powerloss", __doc__, body, add_args)
