"""A story told to a drive whose store lies on a recording disk, and what must hold of it whenever the power was cut.

The story is told once. Then the disk is rebuilt as a cut at any of its records would have left it (recording_disk.py), the store is
opened again, and each claim of the story is held against it: what was acknowledged before the cut is there, byte for byte; what was
begun and not acknowledged is there wholly or not at all; what was not begun is not there."""
import contextlib
import errno
import functools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from drive import MODEL, Drive, attr, binary, clean_env, commit, mintfs, read, reason, run, sha256, wait_until, write
from power_tools import Tools
from recording_disk import MARK, Disk, Replay, done, put_image

SIZE = 48 << 20
BIG = 300000


class Story:
    """Tells it, and notes what may be claimed from when on (numbers of marks)."""

    def __init__(self, house, options=()):
        self.house, self.options = house, options
        self.disk = Disk(house.folder / "power", SIZE)
        self.noted = 0
        self.commits, self.aliases, self.discards, self.retired, self.synced = {}, [], {}, {}, []  # see the methods
        self.contents = {}  # version: its files
        self.tools = Tools(self)
        house.undo.append(self.disk.stop)
        self.disk.start()

    def note(self, text):
        self.noted += 1
        self.disk.mark(f"{self.noted} {text}")
        return self.noted

    @contextlib.contextmanager
    def told(self, text):
        """Between the two marks of `when` either state will do."""
        when = [self.note("begin " + text), None]
        yield when
        when[1] = self.note("done " + text)

    def mount(self):
        done(binary(), "init", self.disk.top / "store")
        self.drive = Drive(self.house, self.disk.top / "store", self.house.folder / "drive", self.options)
        self.house.drives.append(self.drive)
        with self.marking():
            self.drive.mount()

    @contextlib.contextmanager
    def marking(self):
        """What is started meanwhile tells of its crash points."""
        os.environ["MINTFS_MARKS"] = str(self.disk.marks)
        try:
            yield
        finally:
            del os.environ["MINTFS_MARKS"]

    def command(self, *argv):
        with self.marking():
            mintfs(*argv)

    def mint(self, model=MODEL, name="next"):
        where = self.drive.model(model)
        before = set(os.listdir(where))
        os.mkdir(where / name)
        new, = [n for n in set(os.listdir(where)) - before if n[1:].isdigit()]
        return f"{model}/{new}"

    def fill(self, version, files, sync=()):
        self.contents[version] = files
        for name, data in files.items():
            (self.drive / version / name).parent.mkdir(parents=True, exist_ok=True)
            with open(self.drive / version / name, "wb") as f:
                f.write(data)
                if name in sync:
                    f.flush()
                    os.fsync(f.fileno())
            if name in sync:
                self.synced.append((self.note(f"synced {version}/{name}"), version, name, data))

    def commit(self, version, how=commit):
        with self.told("commit " + version) as self.commits[version]:
            how(self.drive / version)

    def alias(self, name, target, act):
        with self.told(f"alias {name} {target}") as when:
            act()
        self.aliases.append((when, name, target))

    def discard(self, version):
        with self.told("discard " + version) as self.discards[version]:
            self.command("discard", "--force", self.drive / version)

    def retire(self, version):
        with self.told("retire " + version) as self.retired[version]:
            self.command("retire", self.drive / version)

    def import_again(self, version, bundle):
        """A bundle of a version that was retired since, and its contents freed, comes in under the next number."""
        model = os.path.dirname(version)
        before = set(os.listdir(self.drive / model))
        with self.told("import " + version) as when:
            self.command("import", "--renumber", "--store", self.drive.store, bundle)
        new, = [n for n in set(os.listdir(self.drive / model)) - before if n[1:].isdigit()]
        self.commits[f"{model}/{new}"], self.contents[f"{model}/{new}"] = when, self.contents[version]

    def tell(self, chapters, before_end=lambda: None):
        self.mount()
        models = self.drive.at
        for n in range(1, chapters + 1):
            weights = random.Random(n).randbytes(BIG)
            plain = self.mint()
            self.fill(plain, {"model.pth": b"weights %d" % n * 500, "notes/of the run.txt": b"notes"}, sync=["model.pth"])
            self.commit(plain)
            own = json.dumps({"metrics": {"rmse": 10.0 / n}}).encode()
            other = self.mint()
            self.fill(other, {"model.bin": weights, "metadata.json": own, "empty": b"", "same.bin": weights, "model.pth": b"weights %d" % n * 500})
            lost = self.mint("dataset/mol" if n % 2 else "store/S1_all/kan")
            self.fill(lost, {"model.bin": b"to be thrown away", "sub/x": b"x"}, sync=["model.bin"])
            self.commit(other, lambda v: mintfs("commit", v, "-m", "a message"))
            self.discard(lost)
            top = models / MODEL
            here = os.path.basename(other)
            if n == 1:
                self.alias("production", here, lambda: os.symlink(here, top / "production"))
            else:
                self.alias("production", here, lambda: run("ln", "-sfn", here, top / "production"))
            self.alias("canary", here, lambda: os.symlink(here, top / "canary"))
            self.alias("canary", None, lambda: os.unlink(top / "canary"))
            old = self.mint()
            self.fill(old, {"model.pth": b"old and soon of no use %d" % n * 300, "same.bin": weights})
            self.commit(old)
            bundle = self.house.folder / f"bundle{n}.tar"
            mintfs("export", self.drive / old, "-o", bundle)
            self.retire(old)
            with self.told("gc"):
                self.command("gc", "--grace", "0", self.drive.store)
            self.import_again(old, bundle)
            left = self.mint()
            self.fill(left, {"checkpoint_epoch_1.pth": b"half of a training", "more": b"m" * 5000}, sync=["checkpoint_epoch_1.pth"])
            self.tools.deaths()
            self.fill(left, {"checkpoint_epoch_2.pth": b"more of it"}, sync=["checkpoint_epoch_2.pth"])
            self.tools.tell(n)
        before_end()
        self.drive.unmount()
        self.note("the end")
        self.disk.stop()

    # ---- what may be claimed after a cut ----

    def places(self):
        """Records at which something is known to have happened: (number of the record, noted before it, text)."""
        found, noted = [], 0
        for n, (kind, _, data) in enumerate(self.replay.records):
            if kind == MARK:
                text = data.decode()
                if text[0].isdigit():
                    noted = int(text.split()[0])
                found.append((n + 1, noted, text))
        return found

    def open_log(self):
        self.replay = Replay(self.disk.log, SIZE)
        return self.replay

    def start(self):
        """The first record from which on the store is there."""
        return next(n for n, noted, _ in self.places() if noted == 1)

    def noted_at(self, record):
        return max((noted for n, noted, _ in self.places() if n <= record), default=0)


class AfterTheCut:
    """The store of one image, opened again."""

    def __init__(self, story, record, pick):
        self.story, self.noted = story, story.noted_at(record)
        self.folder = Path(tempfile.mkdtemp(prefix="after-", dir=story.house.folder))  # nothing of another cut, even if that could not be unmounted
        self.image, self.top, self.at = self.folder / "image", self.folder / "top", self.folder / "mnt"
        for d in (self.top, self.at):
            d.mkdir()
        image, self.what = story.replay.image(record, pick)
        put_image(self.image, image)

    def check(self):
        done("mount", "-o", "loop,nodiscard", self.image, self.top)
        try:
            drive = Drive(self.story.house, self.top / "store", self.at, self.story.options)
            drive.mount()
            try:
                self.claims(drive)
                self.goes_on(drive)
            finally:
                drive.close()
            self.fsck()
            self.story.tools.backup_is_whole(drive, self.top, self.noted)
            with contextlib.closing(sqlite3.connect(self.top / "store/catalog.db")) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            wait_until(self.unmounted, 60, f"{self.top} to be unmounted")
            shutil.rmtree(self.folder)

    def unmounted(self):
        return subprocess.run(["umount", str(self.top)], stderr=subprocess.DEVNULL).returncode == 0

    def fsck(self):
        """After a gc, which takes what a commit that the cut met had put into the store already."""
        run(binary(), "gc", "--grace", "0", self.top / "store")
        if has_fsck():
            r = run(binary(), "fsck", "--verify", self.top / "store", check=False)
            assert r.returncode == 0, f"fsck: {r.stdout}{r.stderr}"

    def claims(self, drive):
        for version, (begun, acknowledged) in self.story.commits.items():
            state = attr(drive / version, "state")
            retired = self.story.retired.get(version, [self.noted + 1] * 2)
            if retired[0] <= self.noted:
                assert (state is None or retired[1] > self.noted) and state in (None, "committed"), f"{version} was retired, and is {state}"
            elif acknowledged <= self.noted:
                assert state == "committed", f"{version} was acknowledged, and is {state}"
            elif self.noted < begun:
                assert state != "committed", f"{version} is committed before it was asked for"
            if state == "committed":
                self.whole(drive, version)
        for noted, version, name, data in self.story.synced:
            discarded = self.story.discards.get(version, [self.noted + 1])[0] <= self.noted
            if noted <= self.noted and not discarded:
                assert read(drive / version / name) == data, f"{version}/{name} was synced"
        for version, (_, acknowledged) in self.story.discards.items():
            if acknowledged <= self.noted:
                assert not (drive / version).exists(), f"{version} is there again"
        for name in {a[1] for a in self.story.aliases}:
            self.alias(drive, name)
        self.story.tools.claims(drive, self.noted)
        for here, dirs, _ in os.walk(drive.at):  # every draft that is there can be looked through
            for d in dirs:
                os.listdir(os.path.join(here, d))

    def whole(self, drive, version):
        expected = dict(self.story.contents[version])
        seen = {os.path.relpath(os.path.join(h, n), drive / version): read(os.path.join(h, n)) for h, _, names in os.walk(drive / version) for n in names}
        made = seen.pop("metadata.json", None)
        assert made == expected.pop("metadata.json", made) and json.loads(made), f"{version}: metadata.json"
        assert seen == expected, f"{version}: {sorted(n for n in set(seen) | set(expected) if seen.get(n) != expected.get(n))}"

    def alias(self, drive, name):
        possible = {None}
        for (begun, acknowledged), n, target in self.story.aliases:
            if n == name and acknowledged <= self.noted:
                possible = {target}
            elif n == name and begun <= self.noted:
                possible.add(target)
        try:
            there = os.readlink(drive / MODEL / name)
        except FileNotFoundError:
            there = None
        assert there in possible, f"{name} leads to {there}, not to one of {possible}"

    def goes_on(self, drive):
        """Work goes on: drafts that are left commit with what they hold, numbers rise, nothing strange stands in the store."""
        where = drive.model()
        used = [int(n[1:]) for n in os.listdir(where) if n[0] == "v"]
        used += [int(os.path.basename(v)[1:]) for v, (_, ack) in self.story.commits.items() if ack <= self.noted and v.startswith(MODEL)]
        os.mkdir(where / "next")
        new = max(int(n[1:]) for n in os.listdir(where) if n[0] == "v" and n[1:].isdigit())
        assert new > max(used, default=0), "a number was used twice"
        again = {"model.pth": b"weights 1" * 500, "freed.bin": b"old and soon of no use 1" * 300}  # known contents, one perhaps freed
        for name, data in again.items():
            write(where / f"v{new}" / name, data)
        commit(where / f"v{new}")
        assert {name: read(where / f"v{new}" / name) for name in again} == again
        for n in os.listdir(where):
            if n[0] == "v" and attr(where / n, "state") == "draft" and any(os.path.isfile(p) for p in (where / n).rglob("*")):
                before = {p: sha256(read(p)) for p in (where / n).rglob("*") if p.is_file()}
                try:
                    commit(where / n)
                except OSError as e:  # metadata.json or a known format, written and not synced before the cut
                    assert e.errno == errno.EINVAL and reason(where / n), e
                assert {p: sha256(read(p)) for p in before} == before
        aside = drive.store / "lost+found"  # of drafts whose mint was not durable yet and that reached the disk nevertheless: see claims for those that had to stay
        assert not aside.exists() or all(n.startswith("draft-") for n in os.listdir(aside)), "something was set aside"


@functools.cache
def has_fsck():
    return subprocess.run([binary(), "help", "fsck"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_env()).returncode == 0


def possible():
    """None, or why no power can be cut here."""
    for program in ("mkfs.ext4", "losetup"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if subprocess.run(["losetup", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        return "there are no loop devices here"
    return None
