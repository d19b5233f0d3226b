"""Writing to a draft: torch.save of a model (W1), with and without fsync, and many small files."""
import os

import torch

import inputs
from harness import DAEMON, DRIVE, Null, Row, seconds_of, sync, timed


def save(path, state):
    torch.save(state, path)


def save_and_fsync(path, state):
    with open(path, "wb") as f:
        torch.save(state, f)
        f.flush()
        os.fsync(f.fileno())


def saving(place, how, state):
    def case():
        v = place.version()
        sync()
        took = timed(how, v / "model.pth", state)
        place.drop(v)
        return took
    return place.name, case


def creating(place, n):
    def case():
        return seconds_of("walk", "create", place.version(), n) / n
    return place.name, case


def large(bench):
    size = bench.size(512, 64)
    state = inputs.weights(size, 1)
    limit = {DRIVE: 1.05, DAEMON: 1.6}
    with bench.all_places(bindfs=True) as places:
        bench.measure(Row("save", f"torch.save of {size} MiB to a draft", limit=limit), [saving(p, save, state) for p in places])
        bench.measure(Row("save-fsync", f"torch.save of {size} MiB to a draft and fsync", limit=limit), [saving(p, save_and_fsync, state) for p in places])


def small(bench):
    n = bench.size(5000, 1000)
    with bench.all_places(bindfs=True, kept=True) as places, bench.place(Null) as null:
        bench.measure(Row("create", "create, write 4 KiB, close, in a draft", beats="bindfs"), [creating(p, n) for p in [*places, null]])


def main(bench):
    large(bench)
    small(bench)
