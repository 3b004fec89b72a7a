"""Work that goes on while something breaks, and what must be true of it afterwards: an rsync over and over, and a witness that
notes what it was told (durable, done, or EIO) and asks for it at the end."""
import errno
import os
import random
import subprocess
import threading
import time

import mfs
from mfs import Failure, check
from workers import Worker


def make_source(path, seed, scale=1.0):
    """What rsync copies: every size that goes another way (index, one put, parts), and names, links and times."""
    rng = random.Random(seed)
    for n in range(int(60 * scale)):
        where = f"{path}/d{n % 7}/e{n % 3}"
        os.makedirs(where, exist_ok=True)
        size = rng.choice((0, 10, 3000, 16384, 20000, 100000, 400000))
        mfs.put(f"{where}/file {n}", rng.randbytes(size), rng.choice((0o644, 0o600, 0o755)))
    mfs.put(f"{path}/big", rng.randbytes(12 << 20))
    os.symlink("d1/e1", f"{path}/link")
    os.link(f"{path}/big", f"{path}/d1/hard")
    for where, folders, names in os.walk(path, topdown=False):
        for name in (*folders, *names):
            when = rng.randrange(10**18, 17 * 10**17)
            os.utime(f"{where}/{name}", ns=(when, when), follow_symlinks=False)
    return path


class Rsync(threading.Thread):
    """Copies the source into a new directory again and again; one that met EIO is taken up again."""

    def __init__(self, source, target, pause=0.0):
        super().__init__(daemon=True)
        self.source, self.target, self.pause = source, target, pause
        self.done, self.errors = [], []
        self.ending = threading.Event()
        self.process = None
        self.slowest = 0.0

    def run(self):
        n = 0
        while not self.ending.is_set() or not self.done:
            target = f"{self.target}/copy{n}"
            start = time.monotonic()
            self.process = subprocess.Popen(["rsync", "-aHX", f"{self.source}/", target], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            text = self.process.communicate()[0].decode("utf-8", "replace")
            self.slowest = max(self.slowest, time.monotonic() - start)
            if self.process.returncode == 0:
                self.done.append(target)
                n += 1
            else:
                self.errors.append(text)
                if self.process.returncode < 0 or len(self.errors) > 500:
                    return
                time.sleep(0.2)

    def finish(self, seconds):
        self.ending.set()
        self.join(seconds)
        if self.is_alive():
            self.process.kill()
            raise Failure(f"rsync hangs: not done {seconds} s after the fault was over")


def witness(root, until, durable, errnos=(errno.EIO,)):
    """Names of its own: every answer but success and EIO (or these) is a lie. Returns what must be, what may be, and the slowest calls.

    `durable` is a file outside of the mount; a worker that is killed has said there what it was told.
    """
    rng = random.Random(root)
    must, may = {}, {}  # name: content; name: contents, of which one may be there or none
    slow, errors = [], []
    lines, unsure = [], []
    log = os.open(f"{root}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def step(what, call, *args):
        start = time.monotonic()
        try:
            value = call(*args)
            return True, value
        except OSError as error:
            if error.errno not in errnos:
                raise Failure(f"{what}: {error}, of names that nobody else uses (an operation that was done twice?)") from error
            errors.append((what, time.monotonic() - start))
            return False, None
        finally:
            slow.append((time.monotonic() - start, what))

    n = 0
    with open(durable, "w", encoding="ascii") as said:
        while not os.path.exists(until):
            n += 1
            name, data = f"f{n}", rng.randbytes(rng.choice((50, 5000, 60000, 300000))) + b"%d" % n
            ok, fd = step("create", os.open, f"{root}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            if not ok:
                may[name] = [b""]
                continue
            may[name] = [b"", data]
            wrote, _ = step("write", os.write, fd, data)
            synced = wrote and step("fsync", os.fsync, fd)[0]
            closed, _ = step("close", os.close, fd)
            if wrote and (synced or closed):
                must[name] = data
                said.write(f"{name}\n")
                said.flush()
                del may[name]
            if name in must and n % 2:
                ok, _ = step("rename", os.rename, f"{root}/{name}", f"{root}/g{n}")
                if ok:
                    must[f"g{n}"] = must.pop(name)
                else:
                    may[name] = may[f"g{n}"] = [must.pop(name)]
            if n % 3 == 0 and must:
                gone = rng.choice(sorted(must))
                ok, _ = step("unlink", os.unlink, f"{root}/{gone}")
                if ok:
                    del must[gone]
                else:
                    may[gone] = [must.pop(gone)]
            if n % 4 == 0:
                ok, _ = step("mkdir", os.mkdir, f"{root}/m{n}")
                if ok:
                    step("rmdir", os.rmdir, f"{root}/m{n}")
            text = f"line {n}\n"
            wrote, _ = step("append", os.write, log, text.encode())
            synced = wrote and step("fsync of the log", os.fsync, log)[0]
            if synced:
                lines += [*unsure, text]  # an fsync says it of all before
                unsure = []
            elif wrote:
                unsure.append(text)
            time.sleep(0.01)
    step("close of the log", os.close, log)
    return must, may, lines, unsure, slow, errors, n


class Load:
    """Both of them, on one mount."""

    def __init__(self, w, root, elsewhere, errnos=(errno.EIO,)):
        self.w = w
        self.root, self.elsewhere = root, elsewhere
        self.stop_file = f"{w.suite.work}/{os.path.basename(root)}.stop"
        os.mkdir(f"{root}/w")
        os.mkdir(f"{root}/rsync")
        self.witness = Worker(witness, f"{root}/w", self.stop_file, self.stop_file + ".durable", errnos)
        self.rsync = Rsync(w.source, f"{root}/rsync")
        self.rsync.start()

    def go_on(self, seconds):
        """The fault lasts; whoever must not end, has not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.witness.poll():
                self.witness.result()
                raise Failure("the witness has ended by itself")
            time.sleep(0.05)

    def rounds(self):
        try:
            with open(self.stop_file + ".durable", encoding="ascii") as file:
                return len(file.readlines())
        except OSError:
            return 0

    def progress(self, seconds, files=3):
        """Something gets done again: that many files are durable since now."""
        before = self.rounds()
        start = time.monotonic()
        while self.rounds() < before + files:
            self.go_on(0.1)
            check(time.monotonic() - start < seconds, f"no {files} files became durable within {seconds} s")
        return time.monotonic() - start

    def end(self):
        with open(self.stop_file, "w", encoding="ascii"):
            pass

    def judge(self, eio=False, longest=None, after=120):
        """eio: the fault was so long that calls had to fail. longest: seconds, of one call."""
        self.end()
        must, may, lines, unsure, slow, errors, n = self.witness.result(after)
        # The object of a commit of unknown outcome lies at its key until its session is closed, and gc may take it.
        self.w.unsure |= {f"{os.path.basename(self.root)}/w/{name}" for name in may}
        self.rsync.finish(after)
        worst = max(slow)
        print(f"       witness: {n} rounds, {len(errors)} errors, the longest call {worst[0]:.1f} s ({worst[1]}); "
              f"rsync: {len(self.rsync.done)} copies, {len(self.rsync.errors)} times taken up again", flush=True)
        if not eio:
            check(not errors, f"errors although the fault was shorter than the deadline: {errors[:5]}")
            check(not self.rsync.errors, f"rsync failed although the fault was shorter than the deadline: {self.rsync.errors[:1]}")
        if longest:
            check(worst[0] < longest, f"{worst[1]} took {worst[0]:.1f} s; the deadline is {longest} s at most")
        for root in (self.root, self.elsewhere):
            self._judge_witness(f"{root}/w", must, may, lines, unsure)
            for copy in self.rsync.done:
                self._judge_copy(root + copy[len(self.root):])

    def _judge_witness(self, root, must, may, lines, unsure):
        mfs.wait_for(lambda: not set(must) - set(os.listdir(root)), 10 * self.w.slow, f"what was durable to be at {root}: "
                     f"{sorted(set(must) - set(os.listdir(root)))[:5]}")
        have = set(os.listdir(root)) - {"log"}
        for name, data in must.items():
            check(mfs.get(f"{root}/{name}") == data, f"{name} at {root}: other bytes than what was durable")
        for name in have - set(must):
            if name.startswith("m"):
                continue
            check(name in may, f"{name} at {root}: it was removed, and that was done")
            check(mfs.get(f"{root}/{name}") in may[name], f"{name} at {root}: bytes that nobody wrote")
        found = mfs.get(f"{root}/log").decode("ascii", "replace").splitlines(True)
        check(len(found) == len(set(found)), f"lines of the log are there twice: {sorted(x for x in found if found.count(x) > 1)[:3]}")
        lost = set(lines) - set(found)
        check(not lost, f"lines of the log are lost: {sorted(lost)[:3]}")

    def _judge_copy(self, copy):
        rc, text = mfs.run(["rsync", "-aHXnci", "--delete", f"{self.w.source}/", copy], ok=None)
        check(rc == 0 and not text.strip(), f"{copy} differs from its source: {text[:500]}")
