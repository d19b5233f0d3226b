"""The worker is killed every fraction of a second while trainers, readers, aliases and commits are at work.

No program may see an error, no acknowledged commit may be lost, no byte may be wrong, nobody may wait for two seconds; and a new worker answers within 300 ms in the median."""
import argparse
import contextlib
import hashlib
import json
import mmap
import multiprocessing
import os
import random
import signal
import sqlite3
import statistics
import sys
import time
import traceback

import drive as tools
from drive import attr, commit, new_folder, read, sha256, wait_until

STALL_LIMIT, RECOVERY_LIMIT = 2.0, 0.3
MODELS = [f"product/P{n:03}_all/mlstm" for n in range(4)]


class Watch:
    """What one program did: how often, how long at most, what went wrong."""

    def __init__(self, name, reports):
        self.name, self.reports, self.count, self.longest, self.slowest, self.errors, self.at, self.file = name, reports, 0, 0.0, "", [], "", ""

    def __call__(self, what, function, *args, **kw):
        began, self.at = time.monotonic(), what
        try:
            return function(*args, **kw)
        finally:
            took = time.monotonic() - began
            self.count += 1
            if took > self.longest:
                self.longest, self.slowest = took, what

    def tell(self):
        self.reports.put((self.name, self.count, self.longest, self.slowest, self.errors))


def now():
    """As the daemon's log tells it."""
    t = time.time()
    return time.strftime("%F %T", time.gmtime(t)) + f".{int(t * 1000) % 1000:03}"


def until(stop, watch, step):
    """Steps until the end; an error is noted with its place, and the work goes on."""
    while not stop.is_set() and len(watch.errors) < 20:
        try:
            step()
        except Exception as e:  # noqa: B902 - any error is what is looked for
            lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == __file__]
            why = attr(e.filename, "error", "") if isinstance(e, OSError) and e.filename else ""
            watch.errors.append(f"{now()} {watch.at} {watch.file}, lines {lines}: {e!r} {why}")
    watch.tell()


def save(watch, path, data):
    """As programs save: a temporary name, pieces, fsync, rename."""
    watch.file = temporary = path + ".tmp"
    with watch("open", open, temporary, "wb", buffering=0) as f:
        for at in range(0, len(data), 65536):
            watch("write", f.write, data[at:at + 65536])
        watch("fsync", os.fsync, f.fileno())
    watch("rename", os.rename, temporary, path)


def trainer(n, top, stop, reports, acknowledged):
    rng, watch = random.Random(n), Watch(f"trainer {n}", reports)
    model = f"{top}/{MODELS[n % len(MODELS)]}"

    def step():
        os.environ["MINTFS_RUN"] = ""
        watch("mkdir latest", os.mkdir, model + "/latest")
        name = watch("readlink", os.readlink, model + "/latest")
        v = f"{model}/{name}"
        sums = {}
        for epoch in range(rng.randint(1, 3)):
            data = rng.randbytes(rng.choice([100, 5000, 70000, 400000]))
            save(watch, f"{v}/checkpoint_epoch_{epoch}.bin", data)
            sums[f"checkpoint_epoch_{epoch}.bin"] = sha256(data)
        watch("mkdir", os.mkdir, v + "/logs")
        with watch("open", open, v + "/logs/train.log", "x") as f:
            for line in range(20):
                watch("append", f.write, f"{name} {line}\n")
                f.flush()
        sums["logs/train.log"] = sha256("".join(f"{name} {line}\n" for line in range(20)).encode())
        data = rng.randbytes(50000)
        save(watch, v + "/model.bin", data)
        sums["model.bin"] = sha256(data)
        assert sorted(watch("listdir", os.listdir, v)) == sorted({s.split("/")[0] for s in sums})
        if rng.random() < 0.15:
            for s in sums:
                watch("unlink", os.unlink, f"{v}/{s}")
            watch("rmdir", os.rmdir, v + "/logs")
            watch("discard", os.rmdir, v)
            return
        watch("commit", commit, v)
        acknowledged.append((MODELS[n % len(MODELS)], name, sums))
        time.sleep(0.02)

    until(stop, watch, step)


def reader(n, top, stop, reports, acknowledged):
    rng, watch = random.Random(100 + n), Watch(f"reader {n}", reports)

    def step():
        if not acknowledged:
            time.sleep(0.05)
            return
        model, name, sums = acknowledged[rng.randrange(len(acknowledged))]
        path, wanted = rng.choice(sorted(sums.items()))
        watch.file = whole = f"{top}/{model}/{name}/{path}"
        with watch("open", open, whole, "rb") as f:
            if rng.random() < 0.5:
                with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
                    got = watch("mapped read", lambda: hashlib.sha256(m).hexdigest())
            else:
                got = hashlib.sha256(watch("read", f.read)).hexdigest()
        assert got == wanted, f"wrong bytes: {whole}"

    until(stop, watch, step)


def mover(top, stop, reports, acknowledged):
    rng, watch = random.Random(7), Watch("aliases", reports)

    def step():
        time.sleep(0.01)
        mine = [v for v in acknowledged[-40:] if v[0] == MODELS[0]]
        if not mine:
            return
        where, (_, name, _) = f"{top}/{MODELS[0]}", rng.choice(mine)
        watch("symlink", os.symlink, name, where + "/moving")
        watch("rename", os.rename, where + "/moving", where + "/production")
        assert watch("readlink", os.readlink, where + "/production") == name
        if rng.random() < 0.1:
            watch("unlink", os.unlink, where + "/production")

    until(stop, watch, step)


def lister(top, stop, reports, acknowledged):
    watch = Watch("lister", reports)

    def step():
        for model in MODELS:
            for name in watch("listdir", os.listdir, f"{top}/{model}")[-5:]:
                with contextlib.suppress(FileNotFoundError):  # discarded since
                    os.lstat(f"{top}/{model}/{name}")
        with watch("open", open, top + "/versions.json") as f:
            json.loads(watch("read", f.read))
        time.sleep(0.01)

    until(stop, watch, step)


def kill_them(d, kills):
    """One kill after another, each when the worker before answers; returns the seconds until the next answer."""
    rng, waited = random.Random(), []
    while len(waited) < kills:
        time.sleep(rng.choice([0.0, 0.005, 0.02, 0.1, 0.2, 0.4]))
        worker = wait_until(d.worker, what="a worker")
        began = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        os.statvfs(d.at)
        waited.append(time.monotonic() - began)
        if len(waited) % 100 == 0:
            print(f"  {len(waited)} kills", flush=True)
    return waited


def check(d, acknowledged):
    """Everything acknowledged is there, by a daemon that knows nothing of the time before."""
    wrong = []
    d.remount()
    for model, name, sums in acknowledged:
        where = d.at / model / name
        if attr(where, "state") != "committed":
            wrong.append(f"{where} is not committed")
        for path, wanted in sums.items():
            try:
                if sha256(read(where / path)) != wanted:
                    wrong.append(f"wrong bytes: {where / path}")
            except OSError as e:
                wrong.append(f"{where / path}: {e}")
    with contextlib.closing(sqlite3.connect(f"file:{d.store}/catalog.db?mode=ro", uri=True)) as db:
        if db.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            wrong.append("the catalog is damaged")
    names = [(m, n) for m, n, _ in acknowledged]
    if len(names) != len(set(names)):
        wrong.append("a number was given twice")
    return wrong


def tell_log(d, seconds):
    """What the daemon said around the first errors."""
    lines = d.log_text().splitlines()
    for line in lines:
        if any(line.startswith(s) for s in seconds):
            print("  | " + line)


def torture(house, kills, options):
    house.init()
    d = house.mount(options=("deaths=0",) + options)
    for m in MODELS:
        d.model(m)
    manager = multiprocessing.Manager()
    acknowledged, stop, reports = manager.list(), multiprocessing.Event(), multiprocessing.Queue()
    given = (str(d.at), stop, reports, acknowledged)
    programs = [multiprocessing.Process(target=trainer, args=(n, *given)) for n in range(4)]
    programs += [multiprocessing.Process(target=reader, args=(n, *given)) for n in range(2)]
    programs += [multiprocessing.Process(target=mover, args=given), multiprocessing.Process(target=lister, args=given)]
    for p in programs:
        p.start()
    waited = kill_them(d, kills)
    stop.set()
    told = [reports.get(timeout=120) for _ in programs]
    for p in programs:
        p.join(60)
    wrong = check(d, list(acknowledged))
    errors = [f"{name}: {e}" for name, _, _, _, found in told for e in found]
    longest = max(told, key=lambda t: t[2])
    print(f"  {len(waited)} kills; {sum(t[1] for t in told)} operations by {len(told)} programs, {len(acknowledged)} commits acknowledged")
    print(f"  {len(errors)} errors seen, {len(wrong)} things wrong afterwards")
    print(f"  recovery: median {statistics.median(waited) * 1000:.0f} ms, longest {max(waited) * 1000:.0f} ms; longest operation {longest[2]:.2f} s ({longest[3]}, {longest[0]})")
    for line in (errors + wrong)[:40]:
        print("  " + line)
    tell_log(d, [e.split(": ", 1)[1][:19] for e in errors[:3]])
    return not errors and not wrong and longest[2] < STALL_LIMIT and statistics.median(waited) < RECOVERY_LIMIT


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--short", action="store_true")
    p.add_argument("--full", action="store_true")
    p.add_argument("--kills", type=int)
    a = p.parse_args()
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or not tools.kernel_at_least(6, 9):
        print("needs root, /dev/fuse and Linux 6.9")
        return 77
    tools.become_subreaper()
    good = True
    for options in ((), ("nopassthrough",)):
        kills = a.kills or (1000 if a.full else 60)
        print(f"{kills} kills, {'file data by the daemon' if options else 'passthrough'}:", flush=True)
        house = tools.House(new_folder())
        try:
            good &= torture(house, kills, options)
        finally:
            bad = house.close()
            house.remove()
        for line in bad:
            print("  " + line)
        good &= not bad
    print("verdict: " + ("nothing was lost" if good else "NOT as promised"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
