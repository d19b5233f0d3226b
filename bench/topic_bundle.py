"""Whole versions and stores on their way: export beside tar, import beside unpacking it, a folder and a backup beside cp. All durable at their end; what MintFS does besides is
to hash every byte."""
import os
from pathlib import Path

import inputs
from harness import NATIVE, Row, mintfs, remove, run, sync, timed

STORE = "mintfs"  # no drive takes part


def fill(folder, size, few):
    """A folder of models: one of two large versions, and one of many small ones."""
    (folder / "product/BENCH_all/mlstm").mkdir(parents=True)
    inputs.successor(folder / "product/BENCH_all/mlstm/v2", inputs.version(folder / "product/BENCH_all/mlstm/v1", size))
    for i in range(1, few + 1):
        v = folder / f"product/SMALL_all/kan/v{i}"
        v.mkdir(parents=True)
        for j in range(4):
            (v / f"part{j}.bin").write_bytes(os.urandom(20_000))


def durable(*argv, target):
    run(*argv)
    run("sync", "-f", target)


def place(bench, name):
    path = Path(bench.folder / "bundle" / name)
    if path.is_dir():
        remove(path)
    elif path.exists():
        path.unlink()
    path.parent.mkdir(exist_ok=True)
    return path


def native_first(bench, name, make):
    """A case with a fresh target."""
    def case():
        target = place(bench, name)
        sync()
        return timed(make, target)
    return case


def main(bench):
    size, few = bench.size(512, 64), bench.size(500, 50)
    folder, store = bench.folder / "bundle/saved_models", bench.folder / "bundle/store"
    fill(folder, size, few)
    mintfs("init", store)
    mintfs("import", "--tree", folder, "--store", store)
    bundle, archive = bench.folder / "bundle/b.tar", bench.folder / "bundle/plain.tar"

    def fresh_store(target, *argv):
        mintfs("init", target)
        return timed(mintfs, *argv, "--store", target)

    def importing(*argv):
        def case():
            target = place(bench, "fresh")
            sync()
            return fresh_store(target, *argv)
        return case

    def unpack(target):
        target.mkdir()
        durable("tar", "-xf", archive, "-C", target, target=target)

    what = f"{3 * size} MiB in two large versions, {few} small ones"
    bench.measure(Row("export", f"export of a store: {what}"), [
        (NATIVE, native_first(bench, "plain.tar", lambda t: durable("tar", "-cf", t, "-C", folder.parent, "saved_models", target=t.parent))),
        (STORE, native_first(bench, "b.tar", lambda t: mintfs("export", "--all", "--store", store, "-o", t)))])
    bench.measure(Row("import", "import of that bundle into an empty store"), [(NATIVE, native_first(bench, "unpacked", unpack)), (STORE, importing("import", bundle))])
    bench.measure(Row("import-tree", "import of the folder itself"), [
        (NATIVE, native_first(bench, "copied", lambda t: durable("cp", "-a", folder, t, target=t.parent))), (STORE, importing("import", "--tree", folder))])
    bench.measure(Row("backup", "backup of the store to an empty directory"), [
        (NATIVE, native_first(bench, "copied", lambda t: durable("cp", "-a", store, t, target=t.parent))),
        (STORE, native_first(bench, "backup", lambda t: mintfs("backup", t, "--store", store)))])
    bench.measure(Row("backup-again", "a second backup, with nothing new"), [
        (NATIVE, lambda: timed(durable, "rsync", "-a", store, bench.folder / "bundle/copied-again", target=bench.folder)),
        (STORE, lambda: timed(mintfs, "backup", bench.folder / "bundle/backup", "--store", store))])
    for path in [store, bench.folder / "bundle/fresh", bench.folder / "bundle/backup"]:
        remove(path)
    remove(bench.folder / "bundle")
