"""Storing versions, durably: a large one (W1) and its successor (W2), many small ones (W3), one of many files (W4); and the bytes that takes.

Each sample has a store or repository of its own: what is stored already would cost nothing."""
import inputs
import peers
from harness import DAEMON, DRIVE, NATIVE, NULL, Failed, Native, Null, Row, copy, disk_usage, remove, run, seconds_of, sync, timed


def store(place, source):
    v = place.version()
    copy(source, v)
    place.commit(v)
    return v


def putting(bench, kind, args, sources, keys, kept):
    """A case that stores one source after the other; seconds and bytes of each."""
    def case():
        out = {}
        with bench.place(kind, *args, kept=kept) as p:
            for source, key in zip(sources, keys):
                sync()
                if isinstance(p, peers.Peer):
                    out[key] = timed(p.put, source, key)
                else:
                    v = p.version()
                    out[key + "-copy"] = timed(copy, source, v)
                    if isinstance(p, Null):
                        continue
                    out[key] = out[key + "-copy"] + timed(p.commit, v)
                out[key + "-bytes"] = p.size()
        return out
    return case


def all_cases(bench, sources, keys, trees=False):
    ours = [((Native.name if kind[0] is Native else DRIVE if kind[1] else DAEMON), putting(bench, kind[0], kind[1:], sources, keys, trees)) for kind in bench.kinds()]
    return ours + [(p.name, putting(bench, p, (), sources, keys, trees)) for p in peers.installed(bench, trees)]


def check(bench, source, kept=False):
    """What comes back is what was put in; outside of all measuring."""
    for kind in bench.kinds()[1:]:
        with bench.place(*kind, kept=kept) as p:
            v = store(p, source)
            if run("diff", "-rq", source, v, check=False):
                raise Failed(f"{p.name}: the committed files are not what was written")


def large(bench):
    size = bench.size(512, 64)
    w1, w2 = bench.folder / "w1", bench.folder / "w2"
    inputs.successor(w2, inputs.version(w1, size))
    check(bench, w1)
    once = 2 * size * 2**20 * 1.01
    rows = [
        Row("w1", f"W1 copied in and committed ({3 * size} MiB, {2 * size} distinct)", limit={DRIVE: 1.8}, beats="every peer"),
        Row("w1-bytes", "bytes stored after W1", "B", ceiling={DRIVE: once, DAEMON: once}),
        Row("w2", f"W2, its successor, copied in and committed ({size} MiB)"),
        Row("w2-bytes", "bytes stored after W2", "B"),
    ]
    bench.measure(rows, all_cases(bench, [w1, w2], ["w1", "w2"]))
    hashed = Row("commit-hashed", "commit of W1 after hashing and flush are done", ceiling={DRIVE: 0.1, DAEMON: 0.1})
    bench.measure(hashed, [(DRIVE if kind[1] else DAEMON, lambda kind=kind: commit_alone(bench, kind, w1)) for kind in bench.kinds()[1:]])
    remove(w1)
    remove(w2)


def commit_alone(bench, kind, source):
    with bench.place(*kind) as p:
        v = p.version()
        copy(source, v)
        sync()
        p.wait_idle()
        sync()
        return timed(p.commit, v)


def small(bench):
    n, few, size = bench.size(200, 20), bench.size(10, 1), 2**20
    source = bench.folder / "w3"
    inputs.small_versions(source, few, size)

    def by_program(kind, args):
        def case():
            with bench.place(kind, *args) as p:
                sync()
                return seconds_of("versions", "native" if kind is Native else "drive", p.at if kind is Native else p.model(), n, size) / n
        return case

    def by_peer(kind):
        def case():
            with bench.place(kind) as p:
                sync()
                return sum(timed(p.put, source / f"v{i + 1}", f"v{i + 1}") for i in range(few)) / few
        return case

    cases = [(NATIVE if k[0] is Native else DRIVE if k[1] else DAEMON, by_program(k[0], k[1:])) for k in bench.kinds()]
    row = Row("w3", f"W3: {n} versions of 1 MiB, each durable; time of one", limit={DRIVE: 2, DAEMON: 2}, beats="every peer",
              note=f"native: the same writes, one fsync and one SQLite FULL transaction each; peers: the mean of their first {few}")
    bench.measure(row, cases + [(p.name, by_peer(p)) for p in peers.installed(bench)])
    remove(source)


def many_files(bench):
    n = bench.size(20000, 2000)
    source = bench.folder / "w4"
    inputs.tree(source, n)
    check(bench, source, kept=True)
    rows = [
        Row("w4", f"W4: {n} files of 4 to 40 KiB copied in and committed", limit={DRIVE: 2, DAEMON: 2}, beats="every peer"),
        Row("w4-copy", "W4 copied in, without the commit or the sync"),
        Row("w4-bytes", f"bytes stored after W4 ({disk_usage(source) / 2**20:.0f} MiB)", "B"),
    ]
    bench.measure(rows, all_cases(bench, [source], ["w4"], trees=True) + [(NULL, putting(bench, Null, (), [source], ["w4"], True))])


def main(bench):
    large(bench)
    small(bench)
    many_files(bench)
