#!/usr/bin/python3
"""bench/open_read.py DIR: opens, reads and closes every file below DIR once (after one round to warm the caches) and prints microseconds a file, the best of
several rounds. Compare two builds of the daemon, or two trees, by running it alternately."""
import os
import sys
import time

ROUNDS = int(os.environ.get("ROUNDS", "7"))
files = [os.path.join(d, f) for d, _, names in os.walk(sys.argv[1]) for f in names]


def once():
    start = time.monotonic()
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 65536)
        os.close(fd)
    return (time.monotonic() - start) / len(files) * 1e6


once()
times = sorted(once() for _ in range(ROUNDS))
print(f"{len(files)} files: best {times[0]:.2f} us, median {times[len(times) // 2]:.2f} us")
