"""Names and attributes of a committed tree (W4): stat, open, readdir, the first walk, and reading it all back."""
import inputs
from harness import DAEMON, DRIVE, Null, Row, can_drop_caches, copy, drop_caches, seconds_of


def main(bench):
    n = bench.size(20000, 2000)
    source = bench.folder / "names-input"
    inputs.tree(source, n)
    with bench.all_places(bindfs=True) as places, bench.place(Null, n) as null:
        trees = []
        for place in places:
            place.kept = True
            v = place.version()
            copy(source, v)
            place.commit(v)
            trees.append((place.name, v))
        trees.append((null.name, null.committed()))

        def row(key, title, mode, limit, below="", times=0, cold=False):
            def case(v):
                if cold:
                    drop_caches(2)
                return seconds_of("walk", mode, v / below, *([times] if times else [])) / (times or 1)
            if not cold:
                for _, v in trees:
                    case(v)
            limit = {DRIVE: limit, DAEMON: limit}
            bench.measure(Row(key, title, limit=limit), [(name, lambda v=v: case(v)) for name, v in trees])

        one = "part00/sample00000.bin"
        row("stat", "stat of a committed file, warm", "stat", 1.2, one, bench.size(200000, 20000))
        row("open", "open and close of a committed file, warm", "open", 1.2, one, bench.size(50000, 4000))
        row("readdir", f"readdir of {n // 20} committed files, warm", "ls", 1.2, "part00", bench.size(200, 100))
        row("walk", f"walk over {n} committed files (readdir and lstat), warm", "find", 1.2)
        row("w4-read", f"W4 read back: {n} files, warm", "read", 1.3)
        if can_drop_caches():
            row("walk-first", f"first walk over {n} committed files, no name or attribute cached", "find", 3, cold=True)
        else:
            bench.skip("first walk: dropping the caches needs root")
