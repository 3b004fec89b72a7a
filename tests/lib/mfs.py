"""What every mounted suite shares: a volume, a mount, the daemon's log, and the report at the end.

A suite is one Python program. It calls Suite(...) first, which moves it into a mount and pid
namespace of its own: the helpers mount.massfs, mount.fuse.massfs and umount.fuse.massfs of the
build under test lie over /sbin there and nowhere else, and whatever happens to the suite (a time-out
included), its daemons die and its mounts go with it. Nothing of a test is left on the machine but a
work directory, which is removed when the suite passes.

A suite fails when a check fails, when a daemon ends badly, and when a daemon's log holds a report of
a sanitizer or a failed assertion.

MASSFS_TEST_PLAIN=1 (or --plain) puts a bare directory in the place of the mount: that tests the test.
--store s3 puts the objects of each volume into a bucket of a MinIO that tests/servers starts for the suite; --cluster (lib/cluster.py)
its index into MongoDB and Redis too.
"""
import argparse
import ctypes
import errno
import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SKIPPED = 77

# What a daemon must never say. One regular expression, so that a test of the log is one line.
BAD_LOG = re.compile(
    rb"(ERROR: (Address|Leak|Memory)Sanitizer|WARNING: ThreadSanitizer|FATAL: ThreadSanitizer"
    rb"|runtime error:|SUMMARY: \w+Sanitizer|AddressSanitizer:DEADLYSIGNAL|[Aa]ssertion .*failed"
    rb"|\*\*\* stack smashing|double free or corruption|malloc\(\): )")


class Failure(Exception):
    """A check that did not hold."""


class Skip(Exception):
    """The case cannot run here; the text says why."""


class MountError(Failure):
    """The daemon did not mount; rc and text are what it ended with."""

    def __init__(self, rc, text):
        super().__init__(f"mount ended with {rc}: {text}")
        self.rc = rc
        self.text = text


def check(cond, text="check failed"):
    if not cond:
        raise Failure(text)


def same(got, want, what=""):
    if got != want:
        raise Failure(f"{what}: got {shorten(got)}, want {shorten(want)}")


def shorten(value, limit=300):
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def raises(number, call, *args, **kwargs):
    """The call must fail with this errno (or one of these)."""
    numbers = number if isinstance(number, tuple) else (number,)
    names = "/".join(errno.errorcode[n] for n in numbers)
    try:
        call(*args, **kwargs)
    except OSError as error:
        if error.errno not in numbers:
            raise Failure(f"{call.__name__}{shorten(args)}: {errno.errorcode.get(error.errno)}, "
                          f"want {names}") from error
        return
    raise Failure(f"{call.__name__}{shorten(args)} succeeded, want {names}")


def wait_for(condition, seconds=10, what="the condition"):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def put(path, data=b"", mode=0o644):
    """Write a whole file through open, write, close; close's error is raised."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)
    return path


def get(path):
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def digest(path):
    value = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()


def run(argv, ok=(0,), timeout=600, quiet=True, **kwargs):
    """Run a program; its output is returned, and shown when it ends with an unexpected code."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([os.fspath(a) for a in argv], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout, check=False, **kwargs)
    text = done.stdout.decode("utf-8", "replace")
    if not quiet:
        print(text, end="", flush=True)
    if ok is not None and done.returncode not in ok:
        raise Failure(f"{' '.join(str(a) for a in argv)}: exit code {done.returncode}\n{text[-6000:]}")
    return done.returncode, text


def as_user(uid, gid, call, *args, groups=()):
    """Run a function in a child with this user's rights and give back its result or its error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            answer = ("value", call(*args))
        except OSError as error:
            answer = ("errno", (error.errno, str(error)))
        except BaseException as error:  # whatever it is, the parent must hear of it
            answer = ("text", f"{type(error).__name__}: {error}")
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    kind, value = pickle.loads(data)
    if kind == "errno":
        raise OSError(*value)
    if kind == "text":
        raise Failure(value)
    return value


def is_between(data, states):
    """Is it one of the states with a part of the write(2) that leads to the next? The kernel sends a big one in pieces,
    from its start on, and a handle that is open for long (commit=) commits between any two of them.
    """
    for before, after in zip(states, states[1:]):
        n = len(os.path.commonprefix([data, after]))
        before = before + bytes(max(0, n - len(before)))
        if data[n:] == before[n:]:
            return True
    return False


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
    except OSError:
        pass  # not allowed in some containers: the remount has emptied massfs's own caches anyway


LIBC = ctypes.CDLL(None, use_errno=True)


def libc(name, *args):
    """A libc call that Python lacks; fails with OSError."""
    function = getattr(LIBC, name)
    function.restype = ctypes.c_int
    r = function(*args)
    if r < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return r


def renameat2(old, new, flags):
    return libc("renameat2", -100, os.fsencode(old), -100, os.fsencode(new), flags)


RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


class Suite:
    """One run of one suite: arguments, work directory, build under test, report."""

    def __init__(self, name, text, add_args=None, short=None):
        self.name = name
        self.started = time.monotonic()
        self.args = self._parse(text, add_args)
        self.plain = self.args.plain
        self.long = self.args.share == "long"
        self._enter_namespace()
        self.seed = self.args.seed if self.args.seed is not None else random.SystemRandom().getrandbits(32)
        self.rng = random.Random(self.seed)
        self.build = os.path.abspath(self.args.build)
        self.sanitizer = self._read_sanitizer()
        self.failures = []
        self.skips = []
        self.mounts = []
        self.bucket = None  # --store s3: made with the first volume
        self.servers = None  # --store cluster: the same
        self.exec_prefix = []  # before the argv of a daemon: nsenter
        base = os.environ.get("MASSFS_TEST_TMP", "/var/tmp")
        self.work = tempfile.mkdtemp(prefix=f"massfs-{name}-", dir=base)
        os.chmod(self.work, 0o755)
        os.umask(0o022)
        self.bin = os.path.join(self.work, "bin")
        self.env = self._environment()
        if not self.plain:
            self._install_helpers()
        print(f"{name}: build {self.build}, share {self.args.share}, seed {self.seed}"
              f"{', plain directory' if self.plain else ''}", flush=True)

    def _parse(self, text, add_args):
        parser = argparse.ArgumentParser(description=text)
        parser.add_argument("--build", default=os.environ.get("MASSFS_BUILD", f"{ROOT}/build/release"),
                            help="build directory of the massfs under test")
        parser.add_argument("--share", choices=("short", "long"),
                            default=os.environ.get("MASSFS_SHARE", "short"))
        parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
        parser.add_argument("--plain", action="store_true",
                            default=os.environ.get("MASSFS_TEST_PLAIN") == "1",
                            help="a bare directory in the place of the mount")
        parser.add_argument("--keep", action="store_true", help="keep the work directory")
        parser.add_argument("--only", default=None, help="only cases whose name holds this")
        parser.add_argument("--opts", default="", help="further mount options")
        parser.add_argument("--store", choices=("localdir", "s3", "cluster"),
                            default=os.environ.get("MASSFS_TEST_STORE", "localdir"),
                            help="where the objects of volumes are; s3: in a MinIO of the suite's own; cluster: there, with "
                                 "the index in MongoDB and Redis")
        parser.add_argument("--cluster", dest="store", action="store_const", const="cluster", help="--store cluster")
        if add_args:
            add_args(parser)
        return parser.parse_args()

    def _enter_namespace(self):
        if os.environ.get("MASSFS_TEST_NS") == "1":
            # The mark is for this process only: a suite started by a suite gets its own.
            del os.environ["MASSFS_TEST_NS"]
            return
        if os.geteuid() != 0:
            sys.exit(f"{self.name}: mounting needs root")
        os.environ["MASSFS_TEST_NS"] = "1"
        # bash stays as pid 1 of the namespace and reaps daemons whose parent has gone.
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "--pid", "--fork",
                              "--kill-child", "--mount-proc", "--", "bash", "-c", '"$@"; exit $?',
                              "bash", sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]])

    def _read_sanitizer(self):
        try:
            with open(f"{self.build}/CMakeCache.txt", encoding="utf-8") as file:
                found = re.search(r"^MASSFS_SANITIZE:\w+=(.*)$", file.read(), re.M)
                return found.group(1) if found else ""
        except OSError:
            return ""

    def _environment(self):
        env = {"PATH": f"{ROOT}/build/ext/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               "HOME": self.work, "LC_ALL": "C.UTF-8", "TMPDIR": "/tmp"}
        log = f"{self.work}/sanitizer"
        env["ASAN_OPTIONS"] = f"detect_leaks=1:exitcode=99:strict_string_checks=1:log_path={log}"
        env["UBSAN_OPTIONS"] = f"print_stacktrace=1:halt_on_error=1:exitcode=99:log_path={log}"
        env["LSAN_OPTIONS"] = f"suppressions={ROOT}/tests/lib/lsan.supp:print_suppressions=0"
        env["TSAN_OPTIONS"] = (f"exitcode=66:second_deadlock_stack=1:history_size=4:log_path={log}"
                               f":suppressions={ROOT}/tests/lib/tsan.supp")
        for name, value in env.items():
            os.environ[name] = value
        return env

    def _install_helpers(self):
        tool = f"{self.build}/tools/massfs"
        if not os.access(tool, os.X_OK):
            sys.exit(f"{self.name}: {tool} is not there; build it first, or give --build")
        os.mkdir(self.bin)
        names = ("massfs", "mount.massfs", "mount.fuse.massfs", "umount.fuse.massfs")
        for helper in names:
            os.symlink(tool, f"{self.bin}/{helper}")
        # Over /sbin, in this namespace only: mount(8) and umount(8) look for helpers there.
        over = f"{self.work}/over"
        os.mkdir(over)
        run(["mount", "-t", "tmpfs", "tmpfs", over])
        for target in ("/usr/sbin", "/etc"):
            part = over + target.replace("/", "_")
            os.makedirs(f"{part}/upper")
            os.makedirs(f"{part}/work")
            run(["mount", "-t", "overlay", "-o",
                 f"lowerdir={target},upperdir={part}/upper,workdir={part}/work", "overlay", target])
        os.makedirs("/etc/massfs", exist_ok=True)
        os.makedirs("/run/mount", exist_ok=True)
        run(["mount", "-t", "tmpfs", "tmpfs", "/run/mount"])  # libmount's utab: ours stay ours
        for helper in names:
            path = f"/usr/sbin/{helper}"
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(tool, path)

    # ---- the build under test

    def command(self, name="massfs"):
        """argv of a program of the build; a TSan build needs a fixed address space layout."""
        prefix = ["setarch", "-R"] if self.sanitizer == "thread" else []
        return [*prefix, f"{self.bin}/{name}"]

    def massfs(self, *args, ok=(0,), timeout=300, **kwargs):
        return run([*self.command(), *args], ok=ok, timeout=timeout, **kwargs)

    def massfs_json(self, *args, ok=(0,), timeout=300):
        done = subprocess.run([*self.command(), *[os.fspath(a) for a in args], "--json"],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        text = done.stdout.decode("utf-8", "replace")
        if ok is not None and done.returncode not in ok:
            raise Failure(f"massfs {' '.join(map(str, args))} --json: exit code {done.returncode}\n"
                          f"{text[-3000:]}{done.stderr.decode('utf-8', 'replace')[-3000:]}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise Failure(f"massfs {' '.join(map(str, args))} --json: exit code {done.returncode}, not JSON: {shorten(text)}"
                          f"{done.stderr.decode('utf-8', 'replace')[-1000:]}") from error

    def volume(self, name="volume"):
        if self.args.store == "cluster" and not self.plain:
            import cluster  # only here: it needs this file
            return cluster.suite_volume(self, name)
        return Volume(self, name)

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    # ---- the report

    def log_problems(self):
        """Lines of daemon logs and sanitizer reports that must not be there."""
        found = []
        for name in sorted(os.listdir(self.work)):
            if not (name.endswith(".log") or name.startswith("sanitizer.")):
                continue
            with open(f"{self.work}/{name}", "rb") as file:
                for line in file:
                    if BAD_LOG.search(line):
                        found.append(f"{name}: {line.decode('utf-8', 'replace').strip()}")
        return found

    def fail(self, text):
        self.failures.append(text)
        print(f"FAILED {text}", flush=True)

    def finish(self):
        """Unmount what is mounted, judge the logs, tidy, and leave with the exit code."""
        for mount in list(self.mounts):
            try:
                mount.umount()
            except Exception as error:  # a failing unmount is a failure of the suite, not of the report
                self.fail(f"unmount of {mount.path}: {error}")
                mount.kill()
        if self.bucket:
            self.bucket.stop()
        if self.servers:
            self.servers.stop()
        for problem in self.log_problems()[:20]:
            self.fail(problem)
        seconds = time.monotonic() - self.started
        if self.failures:
            self._keep_evidence()
            print(f"{self.name}: {len(self.failures)} failed, {seconds:.0f} s\n"
                  f"again with: sudo {self.repro()}", flush=True)
            self._leave(1)
        if not self.args.keep:
            self._remove_work()
        print(f"{self.name}: passed, {len(self.skips)} skipped, {seconds:.0f} s", flush=True)
        self._leave(0)

    def repro(self):
        given = sys.argv[1:]
        args = [a for n, a in enumerate(given)
                if not a.startswith("--seed") and (n == 0 or given[n - 1] != "--seed")]
        if "--build" not in " ".join(args):
            args += ["--build", self.build]
        if "--share" not in " ".join(args):
            args += ["--share", self.args.share]
        path = os.path.relpath(sys.argv[0], ROOT)
        return f"{path} {' '.join(args)} --seed {self.seed}"

    def _leave(self, code):
        sys.stdout.flush()
        os._exit(code)  # a thread that hangs in a dead mount must not keep the suite alive

    def _remove_work(self):
        run(["umount", "-l", f"{self.work}/over"], ok=None)
        shutil.rmtree(self.work, ignore_errors=True)

    def _keep_evidence(self):
        """Logs always stay; volumes only when they are small."""
        for name in os.listdir(self.work):
            path = f"{self.work}/{name}"
            if os.path.ismount(path) or name in ("over", "bin"):
                continue
            if os.path.isdir(path) and not self.args.keep:
                _, size = run(["du", "-sxm", path], ok=None)
                if int((size.split() or ["0"])[0]) > 1500:
                    shutil.rmtree(path, ignore_errors=True)
        logs = [n for n in os.listdir(self.work) if n.endswith(".log") or n.startswith("sanitizer.")]
        logs.sort(key=lambda n: (n.startswith("sanitizer."), os.stat(f"{self.work}/{n}").st_mtime_ns))
        for name in logs[-4:]:
            with open(f"{self.work}/{name}", "rb") as file:
                lines = file.read()[-20000:].decode("utf-8", "replace").splitlines()
            if lines:
                print(f"---- {name} (end)", *lines[-60 if name.startswith("sanitizer.") else -12:], sep="\n", flush=True)
        print(f"---- kept: {self.work}", flush=True)


class Volume:
    """An embedded volume: a directory that `massfs format` made. With --store s3 its objects are in a bucket, below a
    prefix of its own, and a .conf names both."""

    def __init__(self, suite, name, path=None):
        self.suite = suite
        self.name = name
        self.dir = path or suite.path(name)
        self.source = self.dir  # what verbs and mounts are given
        self.prefix = ""
        self.count = 0

    def format(self, *args):
        if self.suite.plain:
            os.makedirs(self.dir, exist_ok=True)
            return self
        if self.suite.args.store == "s3":
            self._write_conf()
        self.suite.massfs("format", *args, self.source)
        return self

    def _write_conf(self):
        from bucket import Bucket  # only here: most suites need no server
        if not self.suite.bucket:
            self.suite.bucket = Bucket(self.suite.work)
        self.prefix = os.path.relpath(self.dir, self.suite.work).replace(".", "_") + "/"
        self.source = f"{self.dir}.conf"
        put(self.source, f"[volume]\nsource = {self.dir}\n{self.suite.bucket.conf()}prefix = {self.prefix}\n".encode())

    def mount(self, opts="", path=None, source=None, **kwargs):
        self.count += 1
        path = path or self.suite.path(f"{self.name}.mnt")
        os.makedirs(path, exist_ok=True) if not os.path.lexists(path) and not dead(path) else None
        return Mount(self, path, opts, source or self.source, **kwargs)

    def object(self, path):
        """Where the bytes of a file lie for people, with the volume unmounted (not in a bucket)."""
        return os.path.join(os.fsencode(self.dir), b"objects", os.fsencode(path).lstrip(b"/"))

    def object_digest(self, path):
        """Of the bytes that people, or other clients of the bucket, find at the path's key; None: there are none."""
        if self.suite.args.store == "s3":
            data = self.suite.bucket.get(self.prefix + os.fsdecode(path).lstrip("/"))
            return None if data is None else hashlib.sha256(data).hexdigest()
        where = self.object(path)
        return digest(where) if os.path.isfile(where) else None

    def count_versions(self):
        """Of all objects that are stored."""
        if self.suite.args.store == "s3":
            return len(self.suite.bucket.all_versions(self.prefix))
        return sum(len(names) for _, _, names in os.walk(f"{self.dir}/.massfs/v"))

    def settle(self, mount=None):
        if not self.suite.plain:
            self.suite.massfs("settle", "--wait", mount.path if mount else self.source, timeout=900)

    def collect(self):
        """gc --delete until exactly the live set is left (unmounted, and with MASSFS_TEST_GC_AGE=0): pieces deleted.

        What has expired is dropped by one run and deleted by the next one.
        """
        pieces = ("unnamed", "dropped", "waiting", "expired_versions", "expired_trash", "temp_files")
        deleted, end = 0, time.monotonic() + 20
        while True:
            deleted += self.suite.massfs_json("gc", "--delete", self.source)["deleted"]
            left = self.suite.massfs_json("gc", self.source)
            if not any(left[k] for k in pieces) and left["objects"] == left["referenced"] + left["foreign"]:
                break
            check(time.monotonic() < end, f"gc --delete leaves more than the live set: {left}")
        return deleted

    def fsck(self):
        if not self.suite.plain:
            return self.suite.massfs("fsck", self.source)[1]
        return ""


def dead(path):
    """Has the daemon of the mount there died? stat() cannot tell: the kernel answers it from its cache."""
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


class Mount:
    """A daemon in the foreground with its own log file."""

    def __init__(self, volume, path, opts, source, env=None, timeout=60):
        self.volume = volume
        self.suite = volume.suite
        self.path = path
        self.log = self.suite.path(f"{volume.name}-{volume.count}.log")
        self.process = None
        if self.suite.plain:
            self._bind()
        else:
            all_opts = ",".join(o for o in ("foreground", opts, self.suite.args.opts) if o)
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    [*self.suite.exec_prefix, *self.suite.command("mount.massfs"), source, path, "-o", all_opts],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    env=self.suite.env if env is None else env)
            self._wait(timeout)
        self.suite.mounts.append(self)

    def _bind(self):
        os.makedirs(f"{self.volume.dir}/plain", exist_ok=True)
        run(["mount", "--bind", f"{self.volume.dir}/plain", self.path])

    def _wait(self, timeout):
        """Until the mount answers; MountError when the daemon ends before."""
        parent = os.stat(os.path.dirname(self.path)).st_dev
        end = time.monotonic() + timeout
        while True:
            rc = self.process.poll()
            if rc is not None:
                raise MountError(rc, self.log_text()[-3000:])
            try:
                if os.stat(self.path).st_dev != parent and os.statvfs(self.path):
                    break
            except OSError as error:
                if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                    raise
            if time.monotonic() > end:
                self.process.kill()
                raise MountError(-1, f"no answer within {timeout} s\n{self.log_text()[-3000:]}")
            time.sleep(0.01)
        # Verbs are answered a moment later than files, from when it says that it is mounted (if it says so to this log).
        end = time.monotonic() + 2
        while " mounted on " not in self.log_text() and self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)

    @property
    def pid(self):
        return self.process.pid

    def log_text(self):
        if self.suite.plain:
            return ""
        with open(self.log, "rb") as file:
            return file.read().decode("utf-8", "replace")

    def alive(self):
        return self.suite.plain or self.process.poll() is None

    def umount(self, timeout=180):
        """Through umount(8) and umount.fuse.massfs; the daemon must be gone and content with itself."""
        if self in self.suite.mounts:
            self.suite.mounts.remove(self)
        if self.suite.plain:
            run(["umount", self.path])
            return
        if self.process.poll() is not None:
            run(["umount", "-l", self.path], ok=None)
            raise Failure(f"the daemon had ended by itself, code {self.process.returncode}: "
                          f"{self.log_text()[-3000:]}")
        run(["umount", self.path], timeout=timeout)
        try:
            rc = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise Failure("umount returned, but the daemon runs on for 60 s") from error
        if rc != 0:
            raise Failure(f"the daemon ended with {rc}: {self.log_text()[-3000:]}")

    def kill(self):
        """kill -9, and the dead mount stays where it is."""
        if self in self.suite.mounts:
            self.suite.mounts.remove(self)
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        elif self.suite.plain:
            run(["umount", self.path], ok=None)

    def remount(self, opts="", cold=True):
        """Unmount, forget all caches, mount again."""
        self.umount()
        if cold:
            drop_caches()
        return self.volume.mount(opts, path=self.path)

    def status(self, field):
        """A figure of /proc/PID/status in KiB, as VmHWM."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        return 0


def close_others(held):
    """A case that failed half-way leaves descriptors in the mount, which would make umount fail too."""
    for name in os.listdir("/proc/self/fd"):
        if name not in held:
            try:
                os.close(int(name))
            except OSError:
                pass


class Case:
    """What a case function gets: a directory of its own in the mount, and the mount itself."""

    def __init__(self, runner, name):
        self.runner = runner
        self.suite = runner.suite
        self.name = name
        self.rng = random.Random(f"{self.suite.seed} {name}")
        self.dir = os.path.join(runner.mount.path, name)
        os.mkdir(self.dir)
        os.chmod(self.dir, 0o755)

    @property
    def mount(self):
        return self.runner.mount

    @property
    def volume(self):
        return self.runner.volume

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def remount(self, opts=None):
        self.runner.mount = self.mount.remount(self.runner.opts if opts is None else opts)

    def rel(self, path):
        """The path inside the volume."""
        return os.path.relpath(path, self.mount.path)


class Runner:
    """Runs the case_ functions of a module on one mount, each in a directory of its own."""

    def __init__(self, suite, cases, opts="allow_other"):
        self.suite = suite
        self.opts = opts
        self.volume = suite.volume().format()
        self.mount = self.volume.mount(opts)
        os.chmod(self.mount.path, 0o755)
        only = suite.args.only
        for name, call in cases.items():
            if name.startswith("case_") and (not only or only in name):
                self._run(name[len("case_"):], call)

    def _run(self, name, call):
        start = time.monotonic()
        held = set(os.listdir("/proc/self/fd"))
        try:
            if self.suite.plain and getattr(call, "needs_massfs", False):
                raise Skip("a bare directory cannot do this")
            call(Case(self, name))
            print(f"ok     {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Skip as reason:
            self.suite.skips.append(name)
            print(f"skip   {name}: {reason}", flush=True)
        except Exception as error:  # the next case runs whatever this one met
            where = traceback.extract_tb(error.__traceback__)
            line = next((f"{os.path.basename(t.filename)}:{t.lineno}" for t in reversed(where)
                         if os.path.realpath(t.filename).startswith(f"{ROOT}/tests/cases/")), "?")
            self.suite.fail(f"{name} at {line}: {type(error).__name__}: {error}")
            close_others(held)
        if not self.mount.alive():
            self.suite.fail(f"{name}: the daemon has ended: {self.mount.log_text()[-2000:]}")
            self.mount.kill()
            self.mount = self.volume.mount(self.opts)


def run_free_cases(name, text, cases, add_args=None):
    """A suite of case_ functions that mount for themselves; each gets the Suite and an empty directory."""
    suite = Suite(name, text, add_args)
    if suite.plain:
        print(f"{name}: needs massfs; nothing to do on a bare directory", flush=True)
        os._exit(SKIPPED)
    only = suite.args.only
    for case, call in list(cases.items()):
        if case.startswith("case_") and (not only or only in case):
            _run_free(suite, case[len("case_"):], call)
    suite.finish()


def _run_free(suite, name, call):
    start = time.monotonic()
    held = set(os.listdir("/proc/self/fd"))
    place = suite.path(name)
    os.mkdir(place)
    try:
        call(suite, place)
        print(f"ok     {name} ({time.monotonic() - start:.1f} s)", flush=True)
    except Skip as reason:
        suite.skips.append(name)
        print(f"skip   {name}: {reason}", flush=True)
    except Exception as error:  # the next case runs whatever this one met
        where = traceback.extract_tb(error.__traceback__)
        line = next((f"{os.path.basename(t.filename)}:{t.lineno}" for t in reversed(where)
                     if os.path.realpath(t.filename).startswith(f"{ROOT}/tests/cases/")), "?")
        suite.fail(f"{name} at {line}: {type(error).__name__}: {error}")
        close_others(held)
    clear_mounts(suite, place)


def clear_mounts(suite, place):
    """What a case left mounted below its directory; the daemons of it end with their mounts."""
    for mount in [m for m in suite.mounts if m.path.startswith(place)]:
        mount.kill()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[4] for line in file]
    for point in reversed([p for p in points if p.startswith(place)]):
        run(["umount", "-i", "-l", point], ok=None)
    for pid in daemons(suite):
        os.kill(pid, signal.SIGKILL)


def daemons(suite):
    """Processes of this namespace that run the massfs under test."""
    tool = os.path.realpath(f"{suite.build}/tools/massfs")
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/exe").removesuffix(" (deleted)") == tool:
                    with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                        if file.read().rsplit(")", 1)[1].split()[0] != "Z":
                            found.append(int(name))
            except OSError:
                pass
    return found


def massfs_only(call):
    """Marks a case that a bare directory cannot pass."""
    call.needs_massfs = True
    return call


def run_cases(name, text, cases, opts="allow_other", add_args=None):
    """The whole of a suite that is a list of case_ functions."""
    suite = Suite(name, text, add_args)
    try:
        Runner(suite, cases, opts)
    except Exception as error:
        traceback.print_exc()
        suite.fail(f"{type(error).__name__}: {error}")
    suite.finish()


def main(name, text, body, add_args=None):
    """The whole of a suite that is one function."""
    suite = Suite(name, text, add_args)
    try:
        body(suite)
    except Skip as reason:
        print(f"{name}: skipped: {reason}", flush=True)
        suite.failures or os._exit(SKIPPED)
    except Exception as error:
        traceback.print_exc()
        suite.fail(f"{type(error).__name__}: {error}")
    suite.finish()


def interrupted(*_):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, interrupted)
