"""A random workload of several mounts at once, and the judgement of what came of it (history.py).

Three games in one directory tree, each played by processes on every mount:
- tokens: files that are made once, moved between directories by anybody, unlinked by anybody; the directories are removed and made
  again in between. Of each token, the changes that succeeded must be explained by one order, and so must be where it is at the end:
  no rename is lost, no file is at two places, none is in a directory that was removed (orphans).
- folders: directories that are moved into each other by anybody. At the end each is there once: no cycle, none lost, none twice.
- slots: files that are replaced by rename (the first three) or rewritten in place (the others, small: a read is only atomic within a
  page). What is read is one whole content, and not one that was replaced longer ago than the bound (close-to-open).
"""
import errno
import hashlib
import os
import random
import time

import history
import mfs
from mfs import check, wait_for
from workers import together

DIRS = [f"d{n}" for n in range(6)]
FOLDERS = [f"t{n}" for n in range(9)]
SLOTS = [f"s{n}" for n in range(6)]
SIZES = (200, 5000, 300000, 200, 200, 200)  # of a slot, always the same one
RENAMED = 3
BUSY = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ESTALE, errno.EINVAL, errno.ELOOP, errno.ENOTDIR)


class Lost(Exception):
    pass


def sealed(token, size):
    head = f"{token}\n".encode().ljust(40)
    body = random.Random(token).randbytes(size)
    return head + hashlib.sha256(body).digest() + body


def opened(data):
    """The token of a whole content."""
    if len(data) < 72 or data[:40 + 32] != data[:40] + hashlib.sha256(data[72:]).digest():
        raise Lost(f"{len(data)} bytes of no one content: {data[:60]!r}")
    return data[:40].split(b"\n")[0].decode()


class Player:
    """One process at one mount."""

    def __init__(self, root, me, seed, until, ops):
        self.root = root
        self.me = me
        self.rng = random.Random(f"{seed} {me}")
        self.until = until
        self.left = ops  # of each process at most so many changes of tokens: histories must be judged
        self.tokens = []  # (start, end, token, kind, at, to)
        self.writes = []  # (start, end, slot, token)
        self.reads = []  # (start, end, slot, token)
        self.failed = {}
        self.counts = {}
        self.serial = 0

    def timed(self, call, *args, **kwargs):
        start = time.monotonic()
        call(*args, **kwargs)
        return start, time.monotonic()

    # ---- tokens

    def any_token(self):
        where = self.rng.choice(DIRS)
        names = [n for n in os.listdir(f"{self.root}/tokens/{where}") if n.startswith("k")]
        if not names:
            raise FileNotFoundError(errno.ENOENT, "no token here")
        return where, self.rng.choice(names)

    def token_create(self):
        where = self.rng.choice(DIRS)
        self.serial += 1
        name = f"k{self.me}-{self.serial}"
        path = f"{self.root}/tokens/{where}/{name}"
        start = time.monotonic()
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        self.tokens.append((start, time.monotonic(), name, "create", None, where))
        os.write(fd, name.encode())
        try:
            os.close(fd)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise

    def token_move(self):
        where, name = self.any_token()
        to = self.rng.choice([d for d in DIRS if d != where])
        times = self.timed(os.rename, f"{self.root}/tokens/{where}/{name}", f"{self.root}/tokens/{to}/{name}")
        self.tokens.append((*times, name, "move", where, to))
        self.left -= 1

    def token_unlink(self):
        where, name = self.any_token()
        times = self.timed(os.unlink, f"{self.root}/tokens/{where}/{name}")
        self.tokens.append((*times, name, "unlink", where, None))

    def dir_remove(self):
        os.rmdir(f"{self.root}/tokens/{self.rng.choice(DIRS)}")

    def dir_empty_and_remove(self):
        """So that a removal meets creates and moves: everything out of it, and away."""
        where = self.rng.choice(DIRS)
        to = self.rng.choice([d for d in DIRS if d != where])
        for name in os.listdir(f"{self.root}/tokens/{where}"):
            times = self.timed(os.rename, f"{self.root}/tokens/{where}/{name}", f"{self.root}/tokens/{to}/{name}")
            self.tokens.append((*times, name, "move", where, to))
        os.rmdir(f"{self.root}/tokens/{where}")

    def dir_make(self):
        os.mkdir(f"{self.root}/tokens/{self.rng.choice(DIRS)}")

    # ---- folders

    def folders(self):
        found = {}
        for where, names, _ in os.walk(f"{self.root}/folders"):
            for name in names:
                found[name] = f"{where}/{name}"
        return found

    def folder_move(self):
        found = self.folders()
        if len(found) < 2:
            raise FileNotFoundError(errno.ENOENT, "all of them are moving")
        name, to = self.rng.sample(sorted(found), 2)
        target = found[to] if self.rng.random() < 0.8 else f"{self.root}/folders"
        os.rename(found[name], f"{target}/{name}")

    # ---- slots

    def slot(self, first=0, last=len(SLOTS)):
        n = self.rng.randrange(first, last)
        return n, f"{self.root}/slots/{SLOTS[n]}"

    def slot_replace(self):
        n, path = self.slot(0, RENAMED)
        self.serial += 1
        token = f"w{self.me}-{self.serial}"
        temporary = f"{self.root}/slots/.{token}"
        mfs.put(temporary, sealed(token, SIZES[n]))
        times = self.timed(os.rename, temporary, path)
        self.writes.append((*times, n, token))

    def slot_rewrite(self):
        """In place, in one write, of the same length: readers see one whole or another."""
        n, path = self.slot(RENAMED)
        self.serial += 1
        token = f"w{self.me}-{self.serial}"
        start = time.monotonic()
        fd = os.open(path, os.O_RDWR)
        try:
            os.pwrite(fd, sealed(token, SIZES[n]), 0)
        finally:
            os.close(fd)
        self.writes.append((start, time.monotonic(), n, token))

    def slot_read(self):
        n, path = self.slot()
        for left in (2, 1, 0):
            start = time.monotonic()
            data = mfs.get(path)
            try:
                token = opened(data)
                break
            except Lost:
                if n < RENAMED or not left:  # in place, the copy of a page may meet a write at the same mount, as in any filesystem
                    raise
        self.reads.append((start, time.monotonic(), n, token))

    WORK = ((token_create, 3), (token_move, 12), (token_unlink, 2), (dir_remove, 2), (dir_empty_and_remove, 1), (dir_make, 3),
            (folder_move, 6), (slot_replace, 5), (slot_rewrite, 5), (slot_read, 15))

    def play(self):
        work = [w for w, n in self.WORK for _ in range(n)]
        while time.monotonic() < self.until:
            todo = self.rng.choice(work)
            name = todo.__name__
            if self.left <= 0 and name == "token_move":
                continue
            try:
                todo(self)
                self.counts[name] = self.counts.get(name, 0) + 1
            except OSError as error:
                if error.errno not in BUSY:
                    raise Lost(f"{name}: {error}") from error
                key = f"{name} {errno.errorcode[error.errno]}"
                self.failed[key] = self.failed.get(key, 0) + 1
        return self.tokens, self.writes, self.reads, self.counts, self.failed


def player(root, me, seed, until, ops):
    return Player(root, me, seed, until, ops).play()


def play(w, roots, seconds):
    """roots: the directory as each mount has it. Two players a mount."""
    slow = w.slow
    until = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < until or rounds == 0:
        one_round(w, [f"{r}/r{rounds}" for r in roots], min(60, max(5, until - time.monotonic())), slow)
        rounds += 1


def one_round(w, roots, seconds, slow):
    os.mkdir(roots[0])
    for name in ("tokens", "folders", "slots"):
        os.mkdir(f"{roots[0]}/{name}")
    for name in DIRS:
        os.mkdir(f"{roots[0]}/tokens/{name}")
    for name in FOLDERS:
        os.mkdir(f"{roots[0]}/folders/{name}")
    first = []
    for n, name in enumerate(SLOTS):
        start = time.monotonic()
        mfs.put(f"{roots[0]}/slots/{name}", sealed(f"first{n}", SIZES[n]))
        first.append((start, time.monotonic(), n, f"first{n}"))
    for root in roots:
        wait_for(lambda r=root: mfs_list(f"{r}/slots") == SLOTS and mfs_list(f"{r}/folders") == FOLDERS, 10 * slow, "the start of the game")
    until = time.monotonic() + seconds
    seed = w.rng.getrandbits(32)
    done = together([(player, roots[k % len(roots)], k, seed, until, 100000) for k in range(2 * len(roots))], seconds + 60 * (2 if slow > 1 else 1))
    counts, failed = {}, {}
    for _, _, _, c, f in done:
        for into, what in ((counts, c), (failed, f)):
            for k, n in what.items():
                into[k] = into.get(k, 0) + n
    print("       " + ", ".join(f"{k} {n}" for k, n in sorted(counts.items())), flush=True)
    judge_tokens(roots, [op for d in done for op in d[0]], slow)
    judge_folders(roots, slow)
    judge_slots(first + [op for d in done for op in d[1]], [op for d in done for op in d[2]], 0.5 * (10 if slow > 1 else 1))
    for name in ("token_move", "folder_move", "slot_replace", "slot_read"):
        check(counts.get(name), f"nothing was done of {name}: {counts} {failed}")


def mfs_list(path):
    try:
        return sorted(os.listdir(path))
    except OSError:
        return None


def places(root):
    """{token: [directories it is in]} and what is in it."""
    found = {}
    for where in os.listdir(f"{root}/tokens"):
        for name in os.listdir(f"{root}/tokens/{where}"):
            found.setdefault(name, []).append(where)
    return found


def judge_tokens(roots, ops, slow):
    for root in roots:
        wait_for(lambda r=root: places(r) == places(roots[0]), 5 * slow, f"all mounts to agree on the tokens ({root})")
    final = places(roots[0])
    twice = {t: d for t, d in final.items() if len(d) > 1}
    check(not twice, f"files at two places: {twice}")
    of = {}
    for start, end, token, kind, at, to in ops:
        of.setdefault(token, []).append((start, end, kind, at, to))
    strange = set(final) - set(of)
    check(not strange, f"files that nobody made: {sorted(strange)[:5]}")
    for token, changes in of.items():
        where = final.get(token, [None])[0]
        if history.linear(changes, where) is None:
            base = min(c[0] for c in changes)
            text = [f"{s - base:.4f}-{e - base:.4f} {k} {a}->{t}" for s, e, k, a, t in sorted(changes)]
            raise mfs.Failure(f"{token}: no order explains its changes; at the end it is in {where}: {text[-12:]}")
        if where is not None:
            for root in roots:
                data = mfs.get(f"{root}/tokens/{where}/{token}")
                check(data in (token.encode(), b""), f"{token} has other bytes: {data[:50]!r}")


def judge_folders(roots, slow):
    def all_of(root):
        found = []
        for where, names, _ in os.walk(f"{root}/folders"):
            found += [os.path.relpath(f"{where}/{n}", root) for n in names]
        return sorted(found)

    for root in roots:
        wait_for(lambda r=root: all_of(r) == all_of(roots[0]), 5 * slow, f"all mounts to agree on the folders ({root})")
    names = sorted(os.path.basename(p) for p in all_of(roots[0]))
    check(names == FOLDERS, f"folders lost (or in a cycle), or twice: {names}")


def judge_slots(writes, reads, bound):
    for n in range(len(SLOTS)):
        mine = {token: (start, end) for start, end, slot, token in writes if slot == n}
        bad = history.stale_reads(mine, [(s, e, token) for s, e, slot, token in reads if slot == n], bound)
        check(not bad, f"slot {n}: {len(bad)} reads saw the past (bound {bound} s), as {[(b[2], b[3]) for b in bad[:3]]}")
