"""Loop devices and small filesystems on them, that go away by themselves.

A device is set up with LO_FLAGS_AUTOCLEAR from the first moment: the kernel frees it with its last user, and its mounts are
in the private mount namespace of the suite. So nothing is left on the machine, however the suite ends.
"""
import errno
import fcntl
import os
import struct

import mfs
from mfs import Skip, run

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
LO_FLAGS_DIRECT_IO = 16


def attach(path, direct_io=False):
    """A loop device over the file: its name, and a descriptor that keeps it until it is closed."""
    file = os.open(path, os.O_RDWR)
    try:
        for _ in range(50):
            try:
                control = os.open("/dev/loop-control", os.O_RDWR)
            except OSError as error:
                raise Skip(f"no loop devices here: {error}") from error
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            os.close(control)
            device = f"/dev/loop{number}"
            if not os.path.exists(device):
                os.mknod(device, 0o600 | 0o060000, os.makedev(7, number))
            fd = os.open(device, os.O_RDWR)
            flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_DIRECT_IO if direct_io else 0)
            info = struct.pack("=5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, flags, path.encode()[-60:], b"", b"", 0, 0)
            try:
                fcntl.ioctl(fd, LOOP_CONFIGURE, struct.pack("=2I", file, 512) + info + bytes(64))
                return device, fd
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EBUSY:  # another took this one meanwhile
                    raise
        raise mfs.Failure("no loop device is free")
    finally:
        os.close(file)


def uses_direct_io(device):
    with open(f"/sys/block/{os.path.basename(device)}/loop/dio", encoding="ascii") as file:
        return file.read().strip() == "1"


def mount(path, where, direct_io=False, options="noatime", make=True):
    """ext4 as mkfs makes it (data=ordered, a journal), on the file, mounted there."""
    device, fd = attach(path, direct_io)
    try:
        if direct_io and not uses_direct_io(device):
            raise Skip(f"{device} does not take direct-io: flushes would not come through")
        if make:
            run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", device])
        os.makedirs(where, exist_ok=True)
        run(["mount", "-t", "ext4", "-o", options, device, where])
    finally:
        os.close(fd)
    return where


def make_file(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def small_fs(path, where, size):
    """A filesystem of `size` bytes in a sparse file."""
    return mount(make_file(path, size), where)
