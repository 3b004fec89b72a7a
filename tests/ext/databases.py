#!/usr/bin/env python3
"""Programs that judge their own files: SQLite, PostgreSQL and git in the mount, with the integrity checks of each.

sqlite-wal, sqlite-journal   several writing processes, kill -9 of the writers, then of massfs; integrity_check, each transaction
                             whole, each acknowledged one there
postgres                     initdb -k, pgbench, kill -9 of all its processes under load, then of massfs; recovery, the sums
                             of pgbench's tables, what pgbench had acknowledged, pg_amcheck, pg_checksums
git                          clone of a repository of some thousand objects, commits, repack and gc, fsck

Then everything once more after a remount with empty caches, and after settle --wait byte for byte in objects/.
"""
import os
import pwd
import random
import re
import select
import signal
import sqlite3
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import Failure, check, run, same

PARTS = ("sqlite-wal", "sqlite-journal", "postgres", "git")
N_WRITERS = 3
ROWS = 3  # of one transaction


# ---- SQLite


def sqlite_writer(path, number, first):
    """A process of its own: transactions without end; the number of each on stdout once it is committed."""
    rng = random.Random(f"{number} {first}")
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("PRAGMA synchronous=FULL")
    n = first
    while True:
        n += 1
        db.execute("BEGIN IMMEDIATE")
        for row in range(ROWS):
            db.execute("INSERT INTO t VALUES (?, ?, ?, ?)", (number, n, row, rng.randbytes(rng.randrange(10, 3000))))
        if n % 7 == 0:
            db.execute("DELETE FROM t WHERE writer = ? AND n < ?", (number, n - 200))
        db.execute("UPDATE total SET n = n + 1")
        db.execute("COMMIT")
        os.write(1, b"%d\n" % n)


class Sqlite:
    def __init__(self, work, mode):
        self.work, self.mode = work, mode
        self.rel = f"sqlite-{mode}/test.db"
        self.acknowledged = [0] * N_WRITERS
        os.mkdir(os.path.dirname(self.path()))
        db = self.connect()
        same(db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0], mode, "journal_mode")
        db.executescript("CREATE TABLE t (writer, n, row, payload, PRIMARY KEY (writer, n, row));"
                         "CREATE TABLE total (n); INSERT INTO total VALUES (0);")
        db.close()

    def path(self):
        return self.work.path(self.rel)

    def connect(self):
        return sqlite3.connect(self.path(), timeout=60, isolation_level=None)

    def round(self, seconds, what):
        """Writers work, then all are killed at once; `what` is massfs's daemon, or nothing, killed before them."""
        writers = [subprocess.Popen([sys.executable, "-B", os.path.abspath(__file__), "--sqlite-writer", self.path(), str(n),
                                     str(self.acknowledged[n])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE) for n in range(N_WRITERS)]
        time.sleep(seconds)
        made = select.select([w.stdout for w in writers], [], [], 60)[0]
        early = [w.poll() for w in writers]
        if what:
            what()
        for writer in writers:
            writer.kill()
        for number, writer in enumerate(writers):
            out, err = writer.communicate(timeout=120)
            check(early[number] is None, f"writer {number} ended by itself: {err.decode()[-2000:]}")
            lines = [int(line) for line in out.splitlines()]
            self.acknowledged[number] = max([self.acknowledged[number], *lines])
        check(made, f"none of {N_WRITERS} writers had a transaction done {60 + seconds:.0f} s after it was started")

    def check(self):
        db = self.connect()
        same(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "integrity_check")
        total = 0
        for number in range(N_WRITERS):
            got = db.execute("SELECT n, count(*) FROM t WHERE writer = ? GROUP BY n ORDER BY n", (number,)).fetchall()
            half = [n for n, rows in got if rows != ROWS]
            check(not half, f"writer {number}: transactions {half[:5]} are there in part")
            there = got[-1][0] if got else 0
            want = self.acknowledged[number]
            check(want <= there <= want + 1, f"writer {number}: {want} were acknowledged, there are {there}")
            check(not got or [n for n, _ in got] == list(range(got[0][0], there + 1)), f"writer {number}: gaps")
            self.acknowledged[number] = there
            total += there
        same(db.execute("SELECT n FROM total").fetchone()[0], total, "transactions counted in the same transaction")
        db.close()
        return total

    def run(self):
        seconds = 6 if self.work.long else 1.5
        for _ in range(6 if self.work.long else 2):
            self.round(self.work.rng.uniform(0.5, 1) * seconds, None)
            self.check()
        self.round(seconds, self.work.kill_daemon)
        self.work.mount_again()
        done = self.check()
        self.round(seconds / 2, None)
        db = self.connect()
        db.execute("VACUUM")
        db.close()
        self.work.done(f"sqlite, {self.mode}: {done} transactions of {N_WRITERS} writers")


# ---- PostgreSQL


class Postgres:
    def __init__(self, work):
        self.work = work
        found = sorted(p for p in os.listdir("/usr/lib/postgresql") if os.path.exists(f"/usr/lib/postgresql/{p}/bin/initdb")) \
            if os.path.isdir("/usr/lib/postgresql") else []
        check(found, "postgresql is not installed")
        self.bin = f"/usr/lib/postgresql/{found[-1]}/bin"
        self.user = next(u for u in ("postgres", "tests", "nobody") if u in {p.pw_name for p in pwd.getpwall()})
        entry = pwd.getpwnam(self.user)
        self.home = work.suite.path("pg")  # socket, log and pgbench's logs: not in the mount
        for where in (self.home, work.path("pgdata")):
            os.makedirs(where)
            os.chown(where, entry.pw_uid, entry.pw_gid)
            os.chmod(where, 0o700)
        self.load = None

    def argv(self, program, *args):
        return ["setpriv", f"--reuid={self.user}", f"--regid={pwd.getpwnam(self.user).pw_gid}", "--clear-groups", "--",
                "env", f"PGHOST={self.home}", "PGDATABASE=postgres", f"HOME={self.home}", f"{self.bin}/{program}", *args]

    def run_as(self, program, *args, **kwargs):
        return run(self.argv(program, *args), cwd=self.home, **kwargs)[1]

    def data(self):
        return self.work.path("pgdata")

    def start(self):
        self.run_as("pg_ctl", "-D", self.data(), "-l", f"{self.home}/log", "-w", "-t", "300", "start", timeout=400)

    def stop(self):
        self.run_as("pg_ctl", "-D", self.data(), "-w", "-t", "300", "-m", "fast", "stop", timeout=400)

    def sql(self, text):
        return self.run_as("psql", "-XAtqc", text).strip()

    def kill_all(self):
        """The postmaster and its children, by pid, with SIGKILL."""
        parents = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                        parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
                except OSError:
                    pass
        children = [pid for pid, parent in parents.items() if parent == self.postmaster]
        for pid in (self.postmaster, *children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        mfs.wait_for(lambda: not any(os.path.exists(f"/proc/{p}/root/.") for p in (self.postmaster, *children)), 60,
                     "the end of PostgreSQL's processes")

    def bench(self, seconds, name):
        """pgbench in the background; it logs each transaction that was acknowledged."""
        self.load = subprocess.Popen(
            self.argv("pgbench", "-n", "-c", "4", "-j", "2", "-T", str(seconds), "-l", f"--log-prefix={self.home}/{name}"),
            cwd=self.home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def acknowledged(self):
        count = 0
        for name in os.listdir(self.home):
            if name.startswith("bench-"):
                with open(f"{self.home}/{name}", "rb") as file:
                    count += file.read().count(b"\n")
        return count

    def crash(self, seconds, name, kill):
        """kill: what dies under load. Then a new start, recovery, and the sums."""
        with open(f"{self.data()}/postmaster.pid", encoding="ascii") as file:
            self.postmaster = int(file.readline())
        self.bench(600, name)
        time.sleep(seconds)
        if self.load.poll() is not None:
            raise Failure(f"pgbench ended by itself: {self.load.stdout.read().decode()[-2000:]}")
        kill()
        self.kill_all()
        self.load.communicate(timeout=60)
        if not self.work.mount.alive():
            self.work.mount_again()
        self.start()
        self.check()

    def check(self):
        sums = self.sql("select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches), "
                        "(select sum(tbalance) from pgbench_tellers), (select coalesce(sum(delta), 0) from pgbench_history)")
        check(len(set(sums.split("|"))) == 1, f"the sums of accounts, branches, tellers and history differ: {sums}")
        there, want = int(self.sql("select count(*) from pgbench_history")), self.acknowledged()
        check(there >= want, f"{want} transactions were acknowledged, {there} are there")
        self.run_as("pg_amcheck", "--install-missing", "--heapallindexed", "-d", "postgres", timeout=900)
        return there

    def run(self):
        seconds = 60 if self.work.long else 10
        self.run_as("initdb", "-k", "-D", self.data(), "--locale=C.UTF-8", "-E", "UTF8", "-A", "trust", timeout=900)
        with open(f"{self.data()}/postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.home}'\nshared_buffers = 32MB\n"
                       "checkpoint_timeout = 30s\nmax_wal_size = 64MB\nmin_wal_size = 32MB\n")
        self.start()
        try:
            self.run_as("pgbench", "-i", "-q", "-s", "5", timeout=900)
            self.bench(seconds, "bench-plain")
            out, _ = self.load.communicate(timeout=seconds * 10 + 300)
            check(self.load.returncode == 0, out.decode()[-3000:])
            self.check()
            self.crash(seconds / 4, "bench-kill", lambda: None)
            self.crash(seconds / 4, "bench-daemon", self.work.kill_daemon)
            there = self.check()
            self.stop()
        except Exception:
            with open(f"{self.home}/log", encoding="utf-8", errors="replace") as file:
                print("---- PostgreSQL's log (end)", file.read()[-4000:], sep="\n", flush=True)
            raise
        self.verify()
        rate = re.search(r"tps = ([\d.]+)", out.decode())
        self.work.done(f"postgres: {there} transactions, {rate.group(1) if rate else '?'} a second, {seconds} s")

    def verify(self):
        self.run_as("pg_checksums", "--check", "-D", self.data(), timeout=900)


# ---- git


class Git:
    ENV = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.fsync=all", "-c", "gc.auto=0", "-c", "safe.directory=*")

    def __init__(self, work):
        self.work = work
        self.source = work.suite.path("repository")
        self.clone = work.path("clone")

    def git(self, *args, where=None, **kwargs):
        return run(["git", *self.ENV, "-C", where or self.clone, *args], timeout=1200, **kwargs)[1]

    def make_source(self):
        """By fast-import: commits of a few files each, some thousand objects."""
        rng = self.work.rng
        commits, files = (400, 8) if self.work.long else (150, 6)
        text = []
        for number in range(commits):
            text.append(b"commit refs/heads/main\ncommitter t <t@t> %d +0000\ndata 1\nx\n" % (1_700_000_000 + number))
            for _ in range(files):
                data = rng.randbytes(rng.randrange(0, 4000)).hex().encode()
                text.append(b"M 644 inline d%d/f%d\ndata %d\n%s\n" % (rng.randrange(20), rng.randrange(40), len(data), data))
        run(["git", "init", "-q", "-b", "main", self.source])
        done = subprocess.run(["git", "-C", self.source, "fast-import", "--quiet"], input=b"".join(text), check=False,
                              capture_output=True)
        check(done.returncode == 0, done.stderr.decode()[-2000:])
        self.git("reset", "-q", "--hard", where=self.source)

    def run(self):
        self.make_source()
        run(["git", *self.ENV, "clone", "-q", "--no-local", self.source, self.clone], timeout=1200)
        rng = self.work.rng
        for number in range(40 if self.work.long else 10):
            for _ in range(5):
                mfs.put(f"{self.clone}/d{rng.randrange(20)}/f{rng.randrange(60)}", rng.randbytes(rng.randrange(20_000)))
            self.git("add", "-A")
            self.git("commit", "-qm", f"commit {number}")
        self.git("checkout", "-q", "-b", "side", "HEAD~5")
        self.git("checkout", "-q", "main")
        self.git("branch", "-qD", "side")
        self.git("gc", "-q")
        self.verify()
        self.git("repack", "-adfq")
        self.git("gc", "-q", "--aggressive", "--prune=now")
        self.head = self.git("rev-parse", "HEAD")
        self.count = self.git("rev-list", "--objects", "--all").count("\n")
        self.verify()
        self.work.done(f"git: {self.count} objects")

    def verify(self):
        text = self.git("fsck", "--full", "--strict")
        check(not re.search(r"^(error|missing|broken|dangling (?!commit|blob|tree))", text, re.M), f"git fsck: {text[-2000:]}")
        same(self.git("status", "--porcelain"), "", "git status")


# ---- all of it


class Work:
    def __init__(self, suite):
        self.suite, self.long, self.rng = suite, suite.long, suite.rng
        self.opts = "allow_other"
        self.volume = suite.volume().format()
        self.mount = self.volume.mount(self.opts)
        os.chmod(self.mount.path, 0o755)

    def path(self, *parts):
        return os.path.join(self.mount.path, *parts)

    def kill_daemon(self):
        if not self.suite.plain:
            self.mount.kill()

    def mount_again(self):
        if not self.suite.plain:
            run(["umount", "-l", self.mount.path], ok=None)  # on a cluster it has gone with the daemon
            self.mount = self.volume.mount(self.opts, path=self.mount.path)

    def done(self, what):
        check(self.mount.alive(), f"the daemon ended: {self.mount.log_text()[-2000:]}")
        print(f"ok     {what}", flush=True)

    def files(self):
        found = {}
        for where, _, names in os.walk(self.mount.path):
            for name in names:
                path = os.path.join(where, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    found[os.path.relpath(path, self.mount.path)] = mfs.digest(path)
        return found

    def compare_objects(self, files):
        wrong = []
        for rel, want in files.items():
            if self.volume.object_digest(rel) != want:
                wrong.append(rel)
        for rel in wrong[:5]:
            print(self.suite.massfs("info", "--volume", self.volume.source, rel, ok=None)[1], flush=True)
        check(not wrong, f"{len(wrong)} of {len(files)} files are not at their path among the objects: {wrong[:10]}")
        print(f"ok     {len(files)} files byte for byte at their paths among the objects", flush=True)

    def run(self, parts):
        sqlite, pg, git = [], None, None
        for part in parts:
            if part.startswith("sqlite-"):
                sqlite.append(Sqlite(self, {"sqlite-wal": "wal", "sqlite-journal": "delete"}[part]))
                sqlite[-1].run()
            elif part == "postgres":
                pg = Postgres(self)
                pg.run()
            else:
                git = Git(self)
                git.run()
        self.mount = self.mount.remount(self.opts)
        for one in sqlite:
            one.check()
        if pg:
            pg.start()
            pg.check()
            pg.stop()
            pg.verify()
        if git:
            git.verify()
            same(git.git("rev-parse", "HEAD"), git.head, "HEAD")
        self.done("all of it after a remount")
        if self.suite.plain:
            self.mount.umount()
            return
        files = self.files()
        self.volume.settle(self.mount)
        self.mount.umount()
        self.compare_objects(files)
        self.volume.fsck()


def body(suite):
    Work(suite).run(suite.args.parts.split(","))


def add_args(parser):
    parser.add_argument("--parts", default=",".join(PARTS), help="of " + ",".join(PARTS))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sqlite-writer"]:
        sqlite_writer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    mfs.main("databases", __doc__, body, add_args)
