#!/usr/bin/env python3
"""The daemon stays under its memory budget while four writers write a big file each, and readers read them."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mfs
from mfs import check, run

WRITER = """
import os, random, sys
path, size, seed = sys.argv[1], int(sys.argv[2]) << 20, int(sys.argv[3])
block = random.Random(seed).randbytes(1 << 20)
fd = os.open(path, os.O_WRONLY | os.O_CREAT)
for number in range(size >> 20):
    os.write(fd, number.to_bytes(8, 'little') + block[8:])
os.close(fd)
"""
READER = """
import os, random, sys
path, size, seed = sys.argv[1], int(sys.argv[2]) << 20, int(sys.argv[3])
block = random.Random(seed).randbytes(1 << 20)
with open(path, 'rb', buffering=0) as file:
    for number in range(size >> 20):
        data = b''
        while len(data) < 1 << 20:
            piece = file.read((1 << 20) - len(data))
            assert piece, f'{path} ends at MiB {number}'
            data += piece
        assert data == number.to_bytes(8, 'little') + block[8:], f'{path} differs in MiB {number}'
    assert not file.read(1)
"""


def default_budget_mib():
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) // 1024
    return min(total // 4, 512)


def parallel(script, mount, size):
    workers = [subprocess.Popen([sys.executable, "-c", script, f"{mount.path}/f{n}", str(size), str(n)])
               for n in range(4)]
    codes = [w.wait(timeout=2400) for w in workers]
    check(codes == [0] * 4, f"exit codes {codes}")


def peak(mount, budget, what):
    if mount.suite.plain:
        return
    used = mount.status("VmHWM") // 1024
    print(f"ok     {what}: at most {used} MiB of {budget} MiB", flush=True)
    check(used <= budget, f"{what}: VmHWM {used} MiB, the budget is {budget} MiB")


def one(suite, option, budget, size):
    volume = suite.volume(f"volume-{budget}").format()
    opts = ",".join(o for o in ("allow_other", option) if o)
    mount = volume.mount(opts)
    parallel(WRITER, mount, size)
    peak(mount, budget, f"4 x {size} MiB written at once, {option or 'default budget'}")
    mount = mount.remount(opts)
    parallel(READER, mount, size)
    peak(mount, budget, f"4 x {size} MiB read at once, {option or 'default budget'}")
    for number in range(4):  # rewritten as a whole: the old content must not be gathered in memory
        fd = os.open(f"{mount.path}/f{number}", os.O_WRONLY)
        os.pwrite(fd, b"changed", (size << 20) - 100)
        os.close(fd)
    peak(mount, budget, f"4 x {size} MiB changed, {option or 'default budget'}")
    mount.umount()
    run(["rm", "-rf", volume.dir])


def body(suite):
    if suite.sanitizer:
        raise mfs.Skip("a sanitizer's own memory counts as the daemon's: run it on the release build")
    one(suite, "", default_budget_mib(), 1024 if suite.long else 256)
    one(suite, "memory=96M", 96, 256 if suite.long else 64)


if __name__ == "__main__":
    mfs.main("memory", __doc__, body)
