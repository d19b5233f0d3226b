"""What all benchmarks share: places to work in, interleaved repetitions, medians and ratios.

A place is a file system under test: native ext4, the drive with and without passthrough, bindfs. All lie on one disk, and a path is equally deep on each.
Ext4 does not give an inode number out again for some minutes after its file was removed, and looks at each such number on its way: creating files where
thousands were just removed takes ten times as long. So trees of many files stay until the end of the run (`kept`), and run.py lets ext4 spread the places.

A row is something measured in several places. The cases of a row run in turns, so that what else the machine does meets all of them, and a ratio is the
median of the ratios of one turn each."""
import collections
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

MODEL = "product/BENCH_all/mlstm"
RUN_IDS = ("MINTFS_RUN", "MINTFS_STORE", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "RANK", "SLURM_JOB_ID", "SLURM_STEP_ID")
NATIVE, DRIVE, DAEMON = "native", "drive", "drive without passthrough"
NULL = "FUSE that does nothing"  # what a round trip to any daemon costs here: no peer
OURS = (NATIVE, DRIVE, DAEMON, NULL)
clock = time.perf_counter


class Failed(Exception):
    """A benchmark that could not be run, or whose result is wrong."""


# ---- programs ----


def run(*argv, cwd=None, env=None, check=True):
    argv = [str(a) for a in argv]
    r = subprocess.run(argv, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and r.returncode:
        raise Failed(f"{' '.join(argv)}: exit {r.returncode}: {(r.stderr or r.stdout).strip()[-500:]}")
    return r.stdout


def timed(function, *args, **kw):
    start = clock()
    function(*args, **kw)
    return clock() - start


def mintfs(*argv):
    return run(os.environ["MINTFS_BIN"], *argv)


def tool(name, *argv):
    """One of the C programs; the seconds it measured itself, and what else it printed."""
    words = run(Path(os.environ["MINTFS_BENCH_DIR"], "bench_" + name), *argv).split()
    return float(words[0]) / 1e3, words[1:]


def seconds_of(name, *argv):
    return tool(name, *argv)[0]


def sync(path=None):
    """Nothing waits for the disk any more, so that a case does not pay for the one before it."""
    if path:
        run("sync", "-f", path)
    else:
        os.sync()


def can_drop_caches():
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def drop_caches(what=3):
    """1: contents, 2: names and attributes, 3: both. For root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text(f"{what}\n")


def disk_usage(path):
    return int(run("du", "-s", "-B1", path).split()[0])


def remove(path):
    """Also of a store, whose blobs are immutable."""
    for blobs in [p for p in (Path(path, "blobs"), Path(path, "store/blobs")) if p.is_dir()]:
        run("chattr", "-R", "-f", "-i", blobs, check=False)
    shutil.rmtree(path)


def copy(source, version):
    """What a person does: the contents of one directory into another."""
    run("cp", "-r", f"{source}/.", version)


# ---- places ----


class Native:
    name, kept = NATIVE, False

    def __init__(self, folder):
        self.folder = Path(folder)
        self.at = self.folder / "tree"
        self.made = 0
        self.at.mkdir(parents=True)

    def version(self, model=MODEL):
        """A new directory to write a version to."""
        self.made += 1
        path = self.at / model / f"v{self.made}"
        path.mkdir(parents=True)
        return path

    def commit(self, version):
        """Makes it durable."""
        sync(version)

    def drop(self, version):
        shutil.rmtree(version)

    def size(self):
        return disk_usage(self.at)

    def close(self):
        if not self.kept:
            remove(self.folder)


class Bindfs(Native):
    name = "bindfs"

    def __init__(self, folder):
        super().__init__(folder)
        self.behind, self.at = self.at, self.folder / "mount"
        self.at.mkdir()
        run("bindfs", self.behind, self.at)

    def close(self):
        run("fusermount3", "-u", self.at)
        super().close()


class Null:
    """bench_null: a committed version that is computed, and places to write to that keep nothing."""

    name, kept = NULL, False

    def __init__(self, folder, files=20000):
        self.folder = Path(folder)
        self.at = self.folder / "mount"
        self.made = 0
        self.at.mkdir(parents=True)
        self.program = subprocess.Popen([Path(os.environ["MINTFS_BENCH_DIR"], "bench_null"), self.at, str(files)])
        end = clock() + 10
        while not os.path.ismount(self.at):
            if clock() > end or self.program.poll() is not None:
                raise Failed("bench_null does not mount")
            time.sleep(0.01)

    def committed(self):
        return self.at / "tree" / MODEL / "v1"

    def version(self, model=MODEL):
        self.made += 1
        path = self.at / f"v{self.made}"
        path.mkdir()
        return path

    def commit(self, version):
        pass

    def drop(self, version):
        pass

    def close(self):
        run("fusermount3", "-u", self.at)
        self.program.wait()
        if not self.kept:
            remove(self.folder)


class Drive:
    """A store of its own and its mount."""

    kept = False

    def __init__(self, folder, passthrough=True):
        self.folder, self.passthrough = Path(folder), passthrough
        self.name = DRIVE if passthrough else DAEMON
        self.store, self.at = self.folder / "store", self.folder / "tree"
        self.at.mkdir(parents=True)
        mintfs("init", self.store)
        self.mount()

    def mount(self):
        mintfs("mount", self.store, self.at, "-o", f"log={self.folder}/log" + ("" if self.passthrough else ",nopassthrough"))

    def unmount(self):
        mintfs("umount", self.at)

    def datapath(self):
        return os.getxattr(self.at, "user.mintfs.datapath").decode()

    def model(self, model=MODEL):
        os.makedirs(self.at / model, exist_ok=True)
        return self.at / model

    def version(self, model=MODEL):
        """A new draft. A program of its own mints it, so that this one may hold several."""
        where = self.model(model)
        run("mkdir", where / "latest")
        return where / os.readlink(where / "latest")

    def commit(self, version):
        os.chmod(version, 0o555)

    def drop(self, version):
        shutil.rmtree(version)

    def size(self):
        """When the staging trees of what is committed are gone, which a commit leaves to the background."""
        end = clock() + 20
        while any((self.store / "drafts").iterdir()) and clock() < end:
            time.sleep(0.01)
        return disk_usage(self.store)

    def daemons(self):
        """Its processes: the keeper, the worker, and the one that tells the kernel."""
        wanted = [b"mount", os.fsencode(self.store), os.fsencode(self.at)]
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if Path("/proc", pid, "cmdline").read_bytes().split(b"\0")[1:4] == wanted:
                    found.append(Path("/proc", pid))
        if not found:
            raise Failed(f"no daemon serves {self.at}")
        return found

    def resident(self):
        """Bytes, of all of them."""
        return sum(int(line.split()[1]) * 1024 for d in self.daemons() for line in (d / "status").read_text().splitlines() if line.startswith("VmRSS:"))

    def wait_idle(self, rest=0.6, limit=120):
        """Until the daemon has used no processor for a while: what is hashed in the background is hashed."""
        def used():
            return [(d / "stat").read_text().rsplit(")", 1)[1].split()[11:13] for d in self.daemons()]

        end, last, since = clock() + limit, used(), clock()
        while clock() - since < rest:
            if clock() > end:
                raise Failed("the daemon does not come to rest")
            time.sleep(0.05)
            now = used()
            if now != last:
                last, since = now, clock()

    def close(self):
        """Unmounts by force if it must: nothing stays mounted whatever happened."""
        try:
            if os.path.ismount(self.at):
                self.unmount()
        except Failed:
            run("umount", "-l", self.at, check=False)
            raise
        finally:
            if not self.kept and not os.path.ismount(self.at):
                remove(self.folder)


# ---- rows ----


class Row:
    """limit: by case, times native at most. ceiling: by case, absolute at most. beats: the drive must be faster than each of these, or than 'every peer'."""

    def __init__(self, key, title, unit="s", limit=None, ceiling=None, beats=None, note=""):
        self.key, self.title, self.unit, self.note = key, title, unit, note
        self.limit, self.ceiling, self.beats = limit or {}, ceiling or {}, beats
        self.topic = ""
        self.values = collections.OrderedDict()  # case -> values, in turn; None where it was left out

    def add(self, case, value):
        self.values.setdefault(case, []).append(value)

    def ratios(self, case):
        pairs = zip(self.values.get(case, []), self.values.get(NATIVE, []))
        return [a / b for a, b in pairs if a is not None and b]

    def summary(self):
        out = {"topic": self.topic, "title": self.title, "unit": self.unit, "note": self.note, "cases": {}}
        for case, values in self.values.items():
            values = [v for v in values if v is not None]
            if not values:
                continue
            entry = {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}
            ratios = self.ratios(case)
            if ratios and case != NATIVE:
                entry.update(ratio=statistics.median(ratios), ratio_min=min(ratios), ratio_max=max(ratios))
            if case in self.limit and ratios:
                entry.update(limit=self.limit[case], reached=entry["ratio"] <= self.limit[case])
            if case in self.ceiling:
                entry.update(ceiling=self.ceiling[case], reached=entry["median"] <= self.ceiling[case])
            out["cases"][case] = entry
        self.judge_peers(out)
        for entry in out["cases"].values():
            entry.update({k: float(f"{v:.4g}") for k, v in entry.items() if isinstance(v, float)})
        return out

    def judge_peers(self, out):
        peers = {c: e["median"] for c, e in out["cases"].items() if c not in OURS and (self.beats == "every peer" or c == self.beats)}
        ours = out["cases"].get(DRIVE) or out["cases"].get(DAEMON)
        if self.beats and peers and ours:
            best = min(peers, key=peers.get)
            ours.update(best_peer=best, faster_than_peers=ours["median"] < peers[best])


class Bench:
    """One run of the benchmarks: its setting, its folder, its rows, and what it left out."""

    def __init__(self, full, folder, turns=0):
        self.full, self.folder = full, Path(folder)
        self.turns = turns or (5 if full else 2)
        self.patience = 60 if full else 1  # seconds a peer may take in one group of rows; then it is left out of later turns
        self.topic = ""
        self.rows, self.skipped, self.failures, self.places = [], [], [], 0

    def size(self, full, short):
        return full if self.full else short

    def skip(self, what):
        if what not in self.skipped:
            self.skipped.append(what)

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def new_folder(self):
        self.places += 1
        return self.folder / f"place{self.places}"

    @contextlib.contextmanager
    def place(self, kind, *args, kept=False):
        p = kind(self.new_folder(), *args)
        p.kept = kept
        try:
            yield p
        finally:
            p.close()

    @contextlib.contextmanager
    def all_places(self, bindfs=False, kept=False):
        """Native, the drives this machine can have, and bindfs if wanted and there."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.place(*kind, kept=kept)) for kind in self.kinds(bindfs)]

    def kinds(self, bindfs=False):
        kinds = [(Native,)] + [(Drive, direct) for direct in self.datapaths()]
        if bindfs and self.has("bindfs"):
            kinds.append((Bindfs,))
        return kinds

    def datapaths(self):
        """With passthrough where the machine can, and without."""
        if not hasattr(self, "_datapaths"):
            with self.place(Drive) as d:
                path = d.datapath()
            self._datapaths = [True, False] if path.startswith("passthrough") else [False]
            if not path.startswith("passthrough"):
                self.skip(f"drive with passthrough: {path}")
        return self._datapaths

    def has(self, program, package=None):
        if shutil.which(program):
            return True
        self.skip(f"{program} is not installed (Debian: {package or program})")
        return False

    def measure(self, rows, cases, turns=None):
        """Runs the cases in turns. A case returns the value of the one row, or values by row key."""
        rows = rows if isinstance(rows, list) else [rows]
        spent = collections.Counter()
        for turn in range(turns or self.turns):
            for i in range(len(cases)):
                name, case = cases[(i + turn) % len(cases)]
                value = None
                if name in OURS or spent[name] <= self.patience:
                    start = clock()
                    value = case()
                    spent[name] += clock() - start
                for row in rows:
                    row.add(name, value.get(row.key) if isinstance(value, dict) else value)
        for row in rows:
            order = [name for name, _ in cases]
            row.values = collections.OrderedDict((n, row.values[n]) for n in dict.fromkeys(order) if any(v is not None for v in row.values[n]))
            row.topic = self.topic
            self.rows.append(row)
            self.say(self.line(row))

    def line(self, row):
        words = []
        for case, entry in row.summary()["cases"].items():
            text = f"{case} {human(entry['median'], row.unit)}"
            if "ratio" in entry:
                text += f" ({entry['ratio']:.2f}x)"
            if not entry.get("reached", True) or not entry.get("faster_than_peers", True):
                text += " MISSED"
            words.append(text)
        return f"{row.title}: " + ", ".join(words)


def human(value, unit):
    if unit == "B":
        for name in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or name == "GiB":
                return f"{value:.3g} {name}" if value < 1000 else f"{value:.0f} {name}"
            value /= 1024
    for name, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or name == "µs":
            return f"{value * factor:.3g} {name}" if value * factor < 1000 else f"{value * factor:.0f} {name}"
