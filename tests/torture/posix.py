"""A draft is as POSIX as the file system below: a million random operations beside ext4, Python's own tests, stress-ng, fio."""
import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "mount"


def pytest(what, seconds, **env):
    """Runs a file of tests/mount; returns whether all was well, and how many tests passed. Its notes are printed."""
    began = time.monotonic()
    r = subprocess.run(["/usr/bin/python3", "-B", "-m", "pytest", "-q", "-s", "-rs", "-p", "no:cacheprovider"] + what.split(), cwd=TESTS, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, env=dict(os.environ, **{k: str(v) for k, v in env.items()}), timeout=seconds)
    counts = dict((word, int(n)) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", r.stdout.strip().splitlines()[-1]))
    said = [line.lstrip(".") for line in r.stdout.splitlines() if re.match(r"\.?(seed \d+, |\d+ (files|stressors))|SKIPPED", line)]
    shown = " ".join(f"{k}={v}" for k, v in env.items())
    print(f"{what.split('::')[0].split()[0]} {shown}: {counts} in {time.monotonic() - began:.0f} s", flush=True)
    for line in said:
        print("  " + line.split("; succeeded")[0], flush=True)
    if r.returncode:
        print(r.stdout[-8000:], flush=True)
    operations = sum(int(n) for n in re.findall(r"seed \d+, (\d+) operations", r.stdout))
    return r.returncode == 0, operations


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="minutes (the default)")
    parser.add_argument("--full", action="store_true", help="1,000,000 operations, half of them by the daemon; each stressor for 20 s; all of Python's tests of files")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first slice of operations; each further slice adds 10")
    parser.add_argument("--operations", type=int, help="in all, in slices of at most 50,000 for each data path")
    parser.add_argument("--only", choices=["random", "python", "stress"], help="one of the three")
    given = parser.parse_args()
    wanted = given.operations or (1000000 if given.full else 40000)
    examples = 1500 if given.full else 100
    well, operations = True, 0
    slices = -(-wanted // 100000)
    if given.only in (None, "random"):
        for n in range(slices):
            good, done = pytest("test_random.py -k long", 7200, MINTFS_SEED=given.seed + 10 * n, MINTFS_OPS=wanted // slices // 2)
            well, operations = well and good, operations + done
        good, _ = pytest("test_random.py -k short", 7200, MINTFS_EXAMPLES=examples)
        well = well and good
    if given.only in (None, "python"):
        good, _ = pytest("test_python_suite.py", 7200, **({"MINTFS_LONG": 1} if given.full else {}))
        well = well and good
    if given.only in (None, "stress"):
        good, _ = pytest("test_stress_tools.py", 7200, **({"MINTFS_STRESS_SECONDS": 20} if given.full else {}))
        well = well and good
    print(f"verdict: {operations} operations beside ext4; {'no unexplained difference' if well else 'DIFFERENCES, see above'}")
    return 0 if well else 1


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("mounting needs root and /dev/fuse")
        sys.exit(77)
    sys.exit(main())
