"""Children of a test, each a process of its own (fcntl locks belong to processes): start them, collect what they found."""
import os
import pickle
import random
import signal
import time
import traceback

from mfs import Failure


def close_files(sockets=False):
    """A child must not keep its parent's files open: a flock would outlive the parent's close, and a port its listener (sockets). Nor
    must a case that has failed: its mounts could not go. Pipes stay.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            is_file = target.startswith("/") and not target.startswith(("/dev", "/proc"))
            if int(name) > 2 and (is_file or sockets and target.startswith(("socket:", "anon_inode:"))):
                os.close(int(name))
        except OSError:
            pass


class Worker:
    """Runs call(*args) in a child; result() gives what it returned, or raises what it raised."""

    def __init__(self, call, *args, name=""):
        self.name = name or call.__name__
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(writer, call, args)
        os.close(writer)
        self.pipe = reader
        os.set_blocking(reader, False)
        self.data = b""
        self.status = None

    def _child(self, writer, call, args):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        random.seed()
        close_files(sockets=True)
        try:
            answer = ("value", call(*args))
        except BaseException as error:  # whatever it is, the parent must hear of it
            answer = ("text", f"{type(error).__name__}: {error}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}")
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        os._exit(0)

    def poll(self):
        """Has it ended?"""
        if self.status is None:
            try:
                while block := os.read(self.pipe, 1 << 20):
                    self.data += block
            except BlockingIOError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                try:
                    while block := os.read(self.pipe, 1 << 20):
                        self.data += block
                except BlockingIOError:
                    pass
                os.close(self.pipe)
                self.status = status
        return self.status is not None

    def result(self, seconds=120):
        end = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > end:
                where = self.where()
                self.kill()
                raise Failure(f"{self.name} hangs: not done within {seconds:.0f} s; it is in {where}")
            time.sleep(0.005)
        if not self.data:
            raise Failure(f"{self.name} ended with status {self.status:#x}, without a word")
        kind, value = pickle.loads(self.data)
        if kind == "text":
            raise Failure(f"{self.name}: {value}")
        return value

    def where(self):
        try:
            with open(f"/proc/{self.pid}/wchan", encoding="ascii") as file:
                return file.read() or "user space"
        except OSError:
            return "?"

    def kill(self):
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            end = time.monotonic() + 10
            while not self.poll() and time.monotonic() < end:
                time.sleep(0.01)


def together(calls, seconds=120):
    """[(function, args...)], all at once; their results in order. One that hangs fails all, and none is left behind."""
    workers = [Worker(*c, name=f"{c[0].__name__} {n}") for n, c in enumerate(calls)]
    end = time.monotonic() + seconds
    try:
        return [w.result(max(1, end - time.monotonic())) for w in workers]
    finally:
        for w in workers:
            w.kill()
