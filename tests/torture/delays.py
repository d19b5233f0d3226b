"""The suite with random delays before and after calls of the system, in MintFS and in the tests: what nobody waited for shows."""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "dev"
OUT = ROOT / "build" / "torture"
SETTINGS = [(50, 4000), (100, 10000), (500, 80000), (10, 300), (2000, 300000)]  # one call in so many, the longest in microseconds
# What promises something within seconds, to which the delays add up.
TIMED = {"test_hangs", "test_stress_tools"}
SHORT = {"test_bundle", "test_mount", "test_uses", "test_keep_readers", "test_layout", "test_mint", "test_alias", "test_run_end", "test_working_directory", "test_mounts"}


def build():
    for command in (["cmake", "--preset", "dev"], ["cmake", "--build", "--preset", "dev", "--", "--quiet"]):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    OUT.mkdir(parents=True, exist_ok=True)
    library = OUT / "delays.so"
    subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-o", library, Path(__file__).with_suffix(".c"), "-ldl"], check=True)
    return library


def programs(full):
    """Each with the command that runs it."""
    for kind in ("cli", "mount"):
        for file in sorted((ROOT / "tests" / kind).glob("test_*.py")):
            if file.stem not in TIMED and (full or file.stem in SHORT):
                yield f"{kind}/{file.stem}", [ROOT / "tests/reachable", "/usr/bin/python3", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    for file in sorted((BUILD / "tests").glob("test_*")):
        if full and file.is_file() and os.access(file, os.X_OK):
            yield f"unit/{file.name}", [file]


def run(command, library, one_in, longest):
    """What it printed, if it failed; None: all was well."""
    env = dict(os.environ, LD_PRELOAD=str(library), DELAYS_ONE_IN=str(one_in), DELAYS_US=str(longest), MINTFS_BIN=str(BUILD / "mintfs"))
    r = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=3600)
    return None if r.returncode in (0, 77) else r.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="ten programs, short delays (the default)")
    parser.add_argument("--full", action="store_true", help="each program, each setting of the delays")
    given = parser.parse_args()
    library, runs, failures = build(), 0, 0
    for one_in, longest in SETTINGS if given.full else SETTINGS[:1]:
        began = time.monotonic()
        for name, command in programs(given.full):
            said = run(command, library, one_in, longest)
            runs += 1
            if said is not None:
                failures += 1
                print(f"FAILED: {name}, one call in {one_in} up to {longest} us late\n{said[-6000:]}", flush=True)
        print(f"one call in {one_in}, up to {longest} us late: {time.monotonic() - began:.0f} s", flush=True)
    print(f"verdict: {runs} programs, {failures} failed{': each is a test that does not wait for what it needs, or a fault' if failures else ''}")
    return 1 if failures else 0


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("mounting needs root and /dev/fuse")
        sys.exit(77)
    sys.exit(main())
