"""Each system call, allocation, step and read or write of SQLite fails with each error, during each operation of the registry."""
import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ["test_registry_every_fault", "test_registry_every_fault_tools"]


def run(preset, every):
    """Builds the tests of that preset and runs them; returns the worst exit status and how many failures they injected."""
    quiet = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    for argv in (["cmake", "--preset", preset], ["cmake", "--build", f"build/{preset}", "--target", *TESTS, "--", "--quiet"]):
        r = subprocess.run(argv, **quiet)
        if r.returncode:
            print(r.stdout[-3000:])
            return r.returncode, 0
    env = {k: v for k, v in os.environ.items() if k != "MINTFS_EVERY_FAULT"}
    env.update({"MINTFS_EVERY_FAULT": "1"} if every else {}, ASAN_OPTIONS="detect_leaks=1", UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    worst, total = 0, 0
    for test in TESTS:
        r = subprocess.run([ROOT / "build" / preset / "tests" / test], env=env, **quiet)
        injected = sum(int(n) for n in re.findall(r"(\d+) failures$", r.stdout, re.M))
        print(f"{test}, preset {preset}, {'each error at each call' if every else 'errors in turn'}: {injected} injected failures, exit {r.returncode}", flush=True)
        if r.returncode:
            print(r.stdout[-6000:])
        worst, total = worst or r.returncode, total + injected
    return worst, total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="the errors take turns over the calls (the default)")
    parser.add_argument("--full", action="store_true", help="each error at each call, and under AddressSanitizer with leaks")
    given = parser.parse_args()
    results = [run("dev", given.full)] + ([run("asan", True)] if given.full else [])
    well = all(status == 0 for status, _ in results)
    print(f"verdict: {sum(n for _, n in results)} injected failures; {'each answered and without a trace' if well else 'WRONG, see above'}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
