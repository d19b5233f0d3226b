"""Rates and sizes of the registry: versions one after the other, mints, and a catalog of 100,000 versions."""
import os
from contextlib import contextmanager
from pathlib import Path

from harness import DAEMON, DRIVE, NATIVE, MODEL, NULL, Drive, Native, Null, Row, clock, mintfs, run, seconds_of, sync, timed, tool

BIG = "product/BIG_all/mlstm"


SLOW_MS = 2  # what a flush takes on many a solid state disk; the disk of a virtual machine may answer in a tenth of a millisecond


@contextmanager
def slow_flushes(ms):
    """Whatever is started meanwhile has a disk that takes so much longer for each flush (bench/slow_flush.c)."""
    added = {"LD_PRELOAD": str(Path(os.environ["MINTFS_BENCH_DIR"], "bench_slow_flush.so")), "SLOW_FLUSH_US": str(ms * 1000)} if ms else {}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def rate(bench, slow_ms=0):
    n = bench.size(200 if slow_ms else 1000, 40)

    def case(kind):
        with slow_flushes(slow_ms), bench.place(*kind) as p:
            sync()
            return seconds_of("versions", "native" if kind[0] is Native else "drive", p.model() if kind[0] is Drive else p.at, n) / n

    names = {(Native,): NATIVE, (Drive, True): DRIVE, (Drive, False): DAEMON, (Null,): NULL}
    what = f"{n} versions of 3 files minted, written, committed; time of one"
    note = "native: the same writes, one fsync and one SQLite FULL transaction each"
    if slow_ms:
        row = Row("versions_slow_disk", f"{n} such versions on a disk whose flushes take {slow_ms} ms more; time of one", limit={DRIVE: 2, DAEMON: 2}, note=note)
        kinds = bench.kinds()
    else:
        row = Row("versions", what, limit={DRIVE: 2, DAEMON: 2}, note=note + "; FUSE that does nothing: the requests alone, nothing is written")
        kinds = [*bench.kinds(), (Null,)]
    bench.measure(row, [(names[kind], lambda kind=kind: case(kind)) for kind in kinds])


def mints(bench):
    def many(p):
        return tool("mints", p.model(), 64)[0]

    def one(p):
        # seconds_of() would give the time of all: the second word is the median of one
        return float(tool("mints", p.model("product/ONE_all/mlstm"), 1, bench.size(200, 50))[1][0]) / 1e3

    with bench.place(Drive, bench.datapaths()[0]) as p:
        p.model(MODEL)
        bench.measure(Row("mints", "64 mints of one model at once, all", ceiling={p.name: 0.1}), [(p.name, lambda: many(p))])
        bench.measure(Row("mint", "one mint alone (median)", ceiling={p.name: 0.001}), [(p.name, lambda: one(p))])


def filled(bench):
    """A drive with a large catalog."""
    versions, models, big = bench.size((90000, 1000, 10000), (4500, 50, 500))
    native = bench.new_folder()
    for i in range(big):
        os.makedirs(native / f"v{i + 1}")
    with bench.place(Drive, bench.datapaths()[0]) as p:
        p.unmount()
        start = clock()
        tool_fill(p, models, versions, big)
        bench.say(f"a catalog of {versions + big} versions filled in {clock() - start:.1f} s")
        p.mount()
        measure_filled(bench, p, native, versions + big, big)
    run("rm", "-r", native)


def tool_fill(p, models, versions, big):
    run(os.path.join(os.environ["MINTFS_BENCH_DIR"], "bench_fill"), p.store, models, versions, big, 5)


def measure_filled(bench, p, native, versions, big):
    def mount():
        p.unmount()
        return timed(p.mount)

    def find():
        p.unmount()
        p.mount()
        run("find", p.at, "-printf", "")
        return p.resident()

    def both(*argv):
        return [(NATIVE, lambda: timed(run, *argv, native)), (p.name, lambda: timed(run, *argv, p.at / BIG))]

    def walk(mode):
        return [(NATIVE, lambda: seconds_of("walk", mode, native)), (p.name, lambda: seconds_of("walk", mode, p.at / BIG))]

    few = {p.name: 4}
    bench.measure(Row("mount", f"mount with {versions} versions", ceiling={p.name: 0.1}), [(p.name, mount)])
    bench.measure(Row("ls", f"ls of a model with {big} versions", limit=few, note="native: as many directories"), both("ls"))
    bench.measure(Row("ls-l", f"ls -l of a model with {big} versions", limit=few, note="native: as many directories"), both("ls", "-l"))
    bench.measure(Row("readdir-model", f"readdir alone of a model with {big} versions"), walk("ls"))
    bench.measure(Row("lstat-model", f"readdir and lstat alone of a model with {big} versions"), walk("ls-l"))
    bench.measure(Row("log", f"mintfs log of a model with {big} versions", ceiling={p.name: 0.2}), [(p.name, lambda: timed(mintfs, "log", p.at / BIG))])
    middle = f"{BIG}/v{big // 2}"
    bench.measure(Row("lineage", f"mintfs lineage --depth 5 in a graph of {versions} versions with 5 inputs each", ceiling={p.name: 0.2}),
                  [(p.name, lambda: timed(mintfs, "lineage", p.at / middle, "--depth", "5"))])
    bench.measure(Row("find", f"mintfs find by two labels among {versions} versions, the newest 1000", ceiling={p.name: 0.2}),
                  [(p.name, lambda: timed(mintfs, "find", "--store", p.store, "labels.rows >= 1000", "labels.kind = assay", "-n", "1000"))])
    bench.measure(Row("resident", f"resident memory after find over {versions} versions", "B", ceiling={p.name: 48 * 2**20}), [(p.name, find)], turns=2)


def main(bench):
    rate(bench)
    rate(bench, SLOW_MS)
    mints(bench)
    filled(bench)
