#!/usr/bin/env python3
"""Decides what tests/run runs, and writes it as one CTestTestfile.cmake, so that one ctest gives one summary.

Unit and contract tests come from the build directories (ctest --show-only=json-v1); the mounted suites are
listed here with the builds they run on and the share they take. In the long share each entry is a unit of
work that is remembered in build/long/<commit>/<part> once it has passed: a part that was stopped goes on.
"""
import argparse
import json
import os
import random
import re
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILDS = ("release", "asan", "tsan")
FSX = ("64m", "big", "all", "mmap", "no-mmap", "rare-close", "fallocate", "punch", "copy")  # ext/fsx.py; the longest first
FSX_SEEDS = 4  # in one part of the long share
CLUSTER_SEEDS = 5  # on MinIO, MongoDB and Redis, a part each


# Tests that mostly wait, for a disk's flush, a time-out or a lease: each takes half a place, so that more of them run beside each
# other (tests/run gives ctest two places a processor).
WAITS = re.compile(r"/test_(mongo|engine_mongo|engine_redis_mongo|sessions)|^asan/mongo/|/mountlocks|release/s3$|/faults|/secrecy")


class Test:
    def __init__(self, name, command, timeout, env=None, serial=False, cwd=ROOT, labels=()):
        self.name = name
        self.command = command
        self.timeout = timeout
        self.env = env or {}
        self.serial = serial
        self.cwd = cwd
        self.labels = labels


def suite(build, script, *args, timeout=900, serial=False, seeded=False, note=""):
    """A mounted suite. A seeded one gets a new seed, which its name shows."""
    name = f"{build}/{os.path.basename(script)}{note}"
    args = list(args)
    if seeded:
        seed = random.SystemRandom().getrandbits(32)
        args += ["--seed", str(seed)]
        name += f" seed {seed}"
    command = [sys.executable, "-B", f"{ROOT}/tests/{script}.py", "--build", f"{ROOT}/build/{build}", *args]
    return Test(name, command, timeout, serial=serial, labels=("mounted", build))


def programs(build, labels, rounds, share):
    """The unit and contract tests of a build directory."""
    shown = subprocess.run(["ctest", "--test-dir", f"{ROOT}/build/{build}", "--show-only=json-v1"],
                           capture_output=True, text=True, check=False)
    if shown.returncode:
        sys.exit(f"ctest --test-dir build/{build}: {shown.stderr.strip()}")
    tests = []
    for entry in json.loads(shown.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in entry.get("properties", [])}
        found = set(properties.get("LABELS", []))
        if not found & set(labels):
            continue
        if "command" not in entry:
            sys.exit(f"tests/run: {entry['name']} of build/{build} is not built")
        command = entry["command"]
        if build == "tsan":
            command = ["setarch", "-R", *command]  # gcc's TSan needs a fixed address space layout
        env = {"MASSFS_SHARE": share, "MASSFS_RACE_ROUNDS": str(rounds),
               **({"MASSFS_LONG": "1"} if share == "long" else {}),
               "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1",
               "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
               "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lib/lsan.supp:print_suppressions=0",
               "TSAN_OPTIONS": f"second_deadlock_stack=1:suppressions={ROOT}/tests/lib/tsan.supp"}
        for setting in properties.get("ENVIRONMENT", []):
            key, _, value = setting.partition("=")
            env[key] = value
        timeout = max(float(properties.get("TIMEOUT", 600)), 600 if share == "short" else 2400)
        tests.append(Test(f"{build}/{entry['name']}", command, timeout, env, properties.get("RUN_SERIAL", False),
                          properties.get("WORKING_DIRECTORY", ROOT), tuple(sorted(found)) + (build,)))
    return tests


def short_share():
    """Of every suite a fixed part: a seed per configuration, 10 crash rounds, 1,000 race rounds."""
    return [
        *programs("release", ("lint",), 1000, "short"),
        *programs("asan", ("unit", "contract", "fuzz", "fault"), 1000, "short"),
        *programs("tsan", ("unit", "contract"), 1000, "short"),
        suite("release", "cases/memory", serial=True),
        suite("release", "ext/realwork", seeded=True, timeout=1200),
        suite("release", "ext/pjdfstest"),
        suite("release", "ext/fsx", seeded=True),
        suite("release", "ext/databases", seeded=True),
        suite("release", "ext/scattered", seeded=True),
        suite("release", "cases/crash", "--rounds", "10", seeded=True),
        suite("release", "cases/powerloss", "--images", "8", seeded=True),
        suite("release", "cases/diskfull", seeded=True),
        suite("release", "cases/shares", seeded=True),
        suite("release", "cases/posix_names"),
        suite("asan", "ext/pjdfstest"),
        suite("asan", "ext/fsx", "--operations", "1000", seeded=True, timeout=1200),
        suite("asan", "cases/posix_files"),
        suite("asan", "cases/posix_names"),
        suite("asan", "cases/posix_meta"),
        suite("asan", "cases/posix_holes", seeded=True),
        suite("asan", "cases/verbs"),
        suite("asan", "cases/tags"),
        suite("asan", "cases/xattrs_tools"),
        suite("asan", "cases/schema"),
        suite("asan", "cases/mounting"),
        suite("asan", "cases/damage"),
        suite("asan", "cases/rebuild"),
        suite("asan", "cases/cache", seeded=True),
        suite("asan", "cases/twin", seeded=True),
        suite("asan", "cases/stress", seeded=True),
        suite("asan", "cases/crash", "--rounds", "4", seeded=True),
        suite("asan", "ext/realwork", "--parts", "trees,sparse,stress,fio", seeded=True, timeout=1500),
        suite("tsan", "cases/stress", seeded=True),
        suite("tsan", "cases/posix_files"),
        suite("tsan", "cases/posix_names"),
        suite("tsan", "ext/realwork", "--parts", "stress", seeded=True, note="-stress"),
        *s3_share(),
        *cluster_share(),
    ]


def spread(tests):
    """What waits begins early, beside what works: every fourth, as far as there is any; the order within both stays."""
    waiting = [t for t in tests if WAITS.search(t.name)]
    found = []
    for n, test in enumerate(t for t in tests if not WAITS.search(t.name)):
        if n % 4 == 0 and waiting:
            found.append(waiting.pop(0))
        found.append(test)
    return found + waiting


def s3_share():
    """An sqlite index with its objects in a MinIO: at most 8 minutes."""
    return [
        *programs("asan", ("s3",), 200, "short"),
        suite("release", "cases/s3", timeout=1200),
        suite("release", "ext/pjdfstest", "--store", "s3", note="-s3"),
        suite("release", "ext/fsx", "--store", "s3", "--operations", "500", seeded=True, note="-s3"),
        suite("release", "cases/posix_files", "--store", "s3", note="-s3"),
    ]


def cluster_share():
    """On MinIO, MongoDB and Redis: at most 13 minutes of the short share, in sum, two at a time."""
    return [
        *programs("asan", ("mongo",), 200, "short"),
        suite("release", "cases/roundtrips", serial=True),
        suite("release", "cases/mounts", seeded=True, timeout=1200),
        suite("release", "cases/mountlocks", seeded=True),
        suite("asan", "cases/mountlocks", seeded=True),
        suite("release", "cases/faults", seeded=True, timeout=1200),
        suite("release", "cases/secrecy"),
        suite("release", "cases/foreign"),
        suite("asan", "cases/clusterlog", timeout=900),
        suite("asan", "cases/mounts", "--seconds", "30", seeded=True, timeout=1800),
        suite("release", "ext/fsx", "--cluster", "--operations", "500", seeded=True, timeout=1200, note="-cluster"),
        suite("release", "cases/posix_meta", "--cluster", note="-cluster"),
        suite("release", "cases/twin", "--cluster", seeded=True, note="-cluster"),
        suite("release", "cases/tags", "--cluster", note="-cluster"),
    ]


def long_parts():
    """Each at most 40 minutes on two cores; units small enough that little is lost when it is stopped."""
    return {
        "races": lambda: [*programs("release", ("contract", "unit"), 10000, "long"),
                          *programs("asan", ("contract", "unit"), 10000, "long")],
        "races-tsan": lambda: programs("tsan", ("contract", "unit"), 10000, "long"),
        "posix": lambda: [suite("release", "ext/pjdfstest"), suite("asan", "ext/pjdfstest"),
                          *[suite("release", f"cases/{n}", "--share", "long", timeout=2400)
                            for n in ("posix_files", "posix_names", "posix_meta", "posix_holes", "verbs", "mounting", "damage", "rebuild",
                                      "diskfull", "cache", "shares")]],
        **{f"fsx-{k + 1}": lambda k=k: [
            suite("release", "ext/fsx", "--seeds", "1", "--operations", "10000", "--only", c, seeded=True, timeout=2400,
                  note=f"-{c}-{n + 1}")
            for n in range(k * FSX_SEEDS, (k + 1) * FSX_SEEDS) for c in FSX] for k in range(20 // FSX_SEEDS)},
        "fsx-asan": lambda: [suite("asan", "ext/fsx", "--seeds", "1", "--operations", "3000", "--only", c, seeded=True,
                                   timeout=2400, note=f"-{c}-{n + 1}") for n in range(2) for c in FSX],
        "realwork": lambda: [suite("release", "ext/realwork", "--share", "long", "--parts", p, seeded=True,
                                   timeout=2400, note=f"-{p}")
                             for p in ("trees,sparse", "build", "stress", "fio")],
        "realwork-asan": lambda: [suite("asan", "ext/realwork", "--share", "long", "--parts", p, seeded=True,
                                        timeout=2400, note=f"-{p}")
                                  for p in ("trees,sparse", "stress", "fio")],
        "crash": lambda: [suite("release", "cases/crash", "--rounds", "10", "--first", str(10 * n), seeded=True,
                                timeout=1800, note=f"-rounds-{10 * n + 1}-to-{10 * n + 10}") for n in range(20)],
        "powerloss": lambda: [suite("release", "cases/powerloss", "--images", "25", seeded=True, timeout=1800,
                                    note=f"-images-{25 * n + 1}-to-{25 * n + 25}") for n in range(8)],
        "databases": lambda: [*[suite("release", "ext/databases", "--share", "long", "--parts", p, seeded=True,
                                      timeout=2400, note=f"-{p}")
                                for p in ("postgres", "sqlite-wal", "sqlite-journal", "git")],
                              suite("asan", "ext/databases", seeded=True, timeout=2400)],
        "scattered": lambda: [suite("release", "ext/scattered", "--share", "long", seeded=True, serial=True, timeout=2400)],
        "s3": lambda: [*programs("asan", ("s3",), 1000, "long"), *programs("tsan", ("s3",), 1000, "long"),
                       suite("release", "cases/s3", serial=True), suite("asan", "cases/s3", serial=True),
                       suite("asan", "ext/pjdfstest", "--store", "s3", note="-s3"),
                       *[suite("asan", f"cases/{n}", "--store", "s3", note="-s3") for n in ("posix_files", "posix_meta", "posix_holes")]],
        "s3-fsx": lambda: [suite("release", "ext/fsx", "--store", "s3", "--seeds", "1", "--operations", "5000", "--only", c,
                                 seeded=True, timeout=2400, note=f"-s3-{c}-{n + 1}") for n in range(2) for c in FSX],
        "s3-realwork": lambda: [suite("release", "ext/realwork", "--store", "s3", "--share", "long", "--parts", p, seeded=True,
                                      timeout=2400, note=f"-s3-{p}") for p in ("trees,sparse", "build", "stress", "fio")],
        "mongo": lambda: [*programs("asan", ("mongo-all",), 1000, "long"), *programs("release", ("mongo-all",), 2000, "long")],
        "queries": lambda: [*programs("asan", ("queries",), 1000, "long"), *programs("release", ("queries",), 1000, "long")],
        "mongo-tsan": lambda: programs("tsan", ("mongo-all",), 500, "long"),
        "mounts": lambda: [suite("release", "cases/mounts", "--share", "long", "--seconds", "600", seeded=True, timeout=2400),
                           suite("release", "cases/mountlocks", "--share", "long", seeded=True, timeout=2400),
                           suite("tsan", "cases/mountlocks", seeded=True, timeout=1800),
                           suite("tsan", "cases/mounts", "--seconds", "120", seeded=True, timeout=1800),
                           suite("release", "cases/roundtrips", serial=True), suite("asan", "cases/secrecy"),
                           suite("asan", "cases/foreign", timeout=1800)],
        "mounts-game": lambda: [suite("release", "cases/mounts", "--only", "random", "--seconds", "1800", seeded=True, timeout=2400)],
        "faults": lambda: [suite("release", "cases/faults", "--share", "long", seeded=True, timeout=2400)],
        "faults-asan": lambda: [suite("asan", "cases/faults", seeded=True, timeout=2400)],
        "cluster-posix": lambda: [suite("release", "ext/pjdfstest", "--cluster", timeout=2400, note="-cluster"),
                                  *[suite("release", f"cases/{n}", "--cluster", timeout=2400, note="-cluster")
                                    for n in ("posix_files", "posix_names", "posix_meta", "posix_holes", "verbs", "twin", "tags", "schema",
                                              "stress")],
                                  *[suite("asan", f"cases/{n}", "--cluster", timeout=2400, note="-cluster")
                                    for n in ("posix_files", "posix_holes", "verbs")]],
        **{f"cluster-fsx-{k + 1}": lambda k=k: [
            suite("release", "ext/fsx", "--cluster", "--seeds", "1", "--operations", "10000", "--only", c, seeded=True, timeout=2400,
                  note=f"-cluster-{c}-{k + 1}") for c in FSX] for k in range(CLUSTER_SEEDS)},
        "cluster-realwork": lambda: [suite("release", "ext/realwork", "--cluster", "--parts", p, seeded=True, timeout=2400,
                                           note=f"-cluster-{p}") for p in ("trees,sparse", "build", "stress", "fio")],
        "cluster-databases": lambda: [suite("release", "ext/databases", "--cluster", "--share", "long", "--parts", p, seeded=True,
                                            timeout=2400, note=f"-cluster-{p}")
                                      for p in ("postgres", "sqlite-wal", "sqlite-journal", "git")],
        "memory": lambda: [suite("release", "cases/memory", "--share", "long", serial=True, timeout=2400)],
        "stress": lambda: [*[suite("tsan", "cases/stress", "--seconds", "300", seeded=True, note=f"-{n}")
                             for n in range(2)],
                           suite("asan", "cases/stress", "--seconds", "300", seeded=True),
                           *[suite("release", "cases/twin", "--rounds", "20", seeded=True, timeout=1200, note=f"-{n}")
                             for n in range(3)],
                           suite("tsan", "ext/realwork", "--parts", "stress", "--share", "long", note="-stress")],
    }


def quote(text):
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def write(tests, out):
    os.makedirs(out, exist_ok=True)
    lines = ["# Written by tests/lib/plan.py"]
    for number, test in enumerate(tests):
        lines.append(f"add_test({quote(test.name)} {' '.join(quote(c) for c in test.command)})")
        settings = [f"PROCESSORS {1 if WAITS.search(test.name) else 2}", f"TIMEOUT {test.timeout}", f"COST {len(tests) - number}",
                    f"WORKING_DIRECTORY {quote(test.cwd)}", "SKIP_RETURN_CODE 77"]
        if test.labels:
            settings.append(f"LABELS {quote(';'.join(test.labels))}")
        if test.serial:
            settings.append("RUN_SERIAL TRUE")
        if test.env:
            settings.append(f"ENVIRONMENT {quote(';'.join(f'{k}={v}' for k, v in test.env.items()))}")
        lines.append(f"set_tests_properties({quote(test.name)} PROPERTIES {' '.join(settings)})")
    with open(f"{out}/CTestTestfile.cmake", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def commit():
    """What the results are of: the commit, and a mark when the tree differs from it."""
    git = ["git", "-c", "safe.directory=*", "-C", ROOT]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return "no-commit"
    dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("-changed" if dirty.stdout.strip() else "")


def remember(tests, part):
    """Each unit goes through unit.sh, which skips what has passed and notes what passes."""
    state = f"{ROOT}/build/long/{commit()}/{part}"
    os.makedirs(os.path.dirname(state), exist_ok=True)
    for test in tests:
        unit = re.sub(r" seed \d+$", "", test.name)
        test.command = [f"{ROOT}/tests/lib/unit.sh", state, unit, *test.command]
    return tests


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", choices=("short", "long"), default="short")
    parser.add_argument("--part")
    parser.add_argument("--only")
    parser.add_argument("--out")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--parts", action="store_true")
    args = parser.parse_args()
    parts = long_parts()
    if args.parts:
        print(*parts, sep="\n")
        return
    if args.part and args.part not in parts:
        sys.exit(f"tests/run: no part {args.part}; there are: {' '.join(parts)}")
    if args.list and (not os.path.exists(f"{ROOT}/build/tsan/tools/massfs") or args.share == "long" and not args.part):
        print("parts of --long:", " ".join(parts))
        return
    tests = parts[args.part]() if args.part else spread(short_share())
    if args.only:
        tests = [t for t in tests if re.search(args.only, t.name)]
    if args.list:
        for test in tests:
            print(f"{test.name}: {shlex.join(test.command)}")
        print("parts of --long:", " ".join(parts))
        return
    write(remember(tests, args.part) if args.part else tests, args.out)


if __name__ == "__main__":
    main()
