"""Reading a committed model: read(2), torch.load and mmap, warm and cold; eight loaders at once (W6)."""
import contextlib
import filecmp
import statistics

import torch

import inputs
from harness import DAEMON, DRIVE, Failed, Row, can_drop_caches, copy, drop_caches, remove, seconds_of, timed


def load(path):
    torch.load(path)


def reader(how):
    return lambda path: seconds_of("load", *how[:1], path, *how[1:])


def cases(models, read, cold=False):
    def case(path):
        if cold:
            drop_caches()
            return read(path)
        return statistics.median(read(path) for _ in range(5))
    return [(place.name, lambda path=path: case(path)) for place, path in models]


@contextlib.contextmanager
def committed(bench):
    """A model in every place."""
    size = bench.size(512, 64)
    source = bench.folder / "read-input"
    source.mkdir()
    torch.save(inputs.weights(size, 1), source / "model.pth")
    with bench.all_places(bindfs=True) as places:
        models = []
        for place in places:
            v = place.version()
            copy(source, v)
            place.commit(v)
            if not filecmp.cmp(source / "model.pth", v / "model.pth", shallow=False):
                raise Failed(f"{place.name}: model.pth is not what was written")
            models.append((place, v / "model.pth"))
        yield size, models
    remove(source)


def warm(bench):
    with committed(bench) as (size, models):
        warm = {DRIVE: 1.05, DAEMON: 2.1}
        bench.measure(Row("read-warm", f"read {size} MiB, warm", limit=warm), cases(models, reader(["read"])))
        bench.measure(Row("load-warm", f"torch.load of {size} MiB, warm", limit={DRIVE: 1.05, DAEMON: 1.15}), cases(models, lambda p: timed(load, p)))
        bench.measure(Row("mmap-warm", f"mmap {size} MiB and touch all, warm", limit=warm), cases(models, reader(["mmap"])))
        bench.measure(Row("mmap8-warm", f"W6: eight processes mmap {size} MiB and touch all, warm", limit=warm), cases(models, reader(["mmap", "8"])))


def cold(bench):
    if not can_drop_caches():
        bench.skip("cold reads: dropping the caches needs root")
        return
    with committed(bench) as (size, models):
        cold = {DRIVE: 1.05, DAEMON: 1.7}
        bench.measure(Row("read-cold", f"read {size} MiB, cold", limit=cold), cases(models, reader(["read"]), True))
        bench.measure(Row("mmap-cold", f"mmap {size} MiB and touch all, cold", limit=cold), cases(models, reader(["mmap"]), True))
        bench.measure(Row("mmap8-cold", f"W6: eight processes mmap {size} MiB and touch all, cold", limit=cold), cases(models, reader(["mmap", "8"]), True))


def main(bench):
    warm(bench)
    cold(bench)
