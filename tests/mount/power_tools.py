"""What tools do in the story of a power cut (power_story.py), and what may be claimed of it afterwards: prune, import of a folder, evaluate, runs and updates of
a process, backup; and the deaths of a worker and an upgrade, which change nothing."""
import contextlib
import json
import os
import sqlite3

from drive import attr, binary, mintfs, read, run, wait_until, write

PRUNED, SCREENED, DATA, PROCESS = "product/pruned_all/m", "product/screened_all/m", "dataset/screened", "process/screening"
NODE = ["sh", "-c", "printf '{{\"score\": 1}}' > \"$1\"", "score", "{result}"]
TRAIN = ["sh", "-c", "cp \"$1/data.json\" \"$2/model.json\"; printf '{{\"metrics\": {{\"r2\": 1}}}}' > \"$2/metadata.json\"", "train", "{dataset}", "{draft}"]
SPEC = {"nodes": [{"name": "one", "dataset": DATA, "model": SCREENED, "run": NODE, "score": "score", "weight": 1}],
        "models": {SCREENED: {"train": TRAIN}}, "aliases": ["serving"]}


def rows(store, query, *args):
    with contextlib.closing(sqlite3.connect(f"file:{store}/catalog.db?mode=ro", uri=True)) as db:
        return db.execute(query, args).fetchall()


class Tools:
    """Their part of a Story: what they did, by marks."""

    def __init__(self, story):
        self.story = story
        self.evaluations, self.bound, self.backups = [], [], []  # marks, and what is true from then on

    def version(self, model, files):
        v = self.story.mint(model)
        self.story.fill(v, files)
        self.story.commit(v)
        return v

    def command(self, *argv):
        self.story.command(*argv, "--store", self.story.drive.store)

    def tell(self, n):
        self.prune(n)
        self.import_tree(n)
        self.process(n)
        self.backup()

    def prune(self, n):
        old = self.version(PRUNED, {"model.bin": b"of no use %d" % n * 100})
        self.version(PRUNED, {"model.bin": b"the newest %d" % n * 100})
        with self.story.told("prune") as when:
            self.command("prune", PRUNED, "--keep-last", "1", "--yes")
        for v in [old] if n == 1 else [old, f"{PRUNED}/v{2 * n - 2}"]:
            self.story.retired[v] = when

    def import_tree(self, n):
        version, folder = f"product/T{n}_all/kan/v3", self.story.house.folder / f"tree{n}"
        files = {"model.bin": b"of a folder %d" % n * 400, "metadata.json": b'{"metrics": {"rmse": 1}}'}
        (folder / version).mkdir(parents=True)
        for name, data in files.items():
            write(folder / version / name, data)
        self.story.contents[version] = files
        with self.story.told("import " + version) as self.story.commits[version]:
            self.command("import", "--tree", folder)

    def process(self, n):
        self.version(DATA, {"data.json": b'{"value": %d}' % n})
        if n == 1:
            self.version(SCREENED, {"model.json": b"first", "metadata.json": b'{"metrics": {"r2": 0.5}}'})
            self.version(PROCESS, {"process.json": json.dumps(SPEC).encode()})
            with self.story.told("process run") as when:
                self.command("process", "run", "screening")
            self.bound.append((when, "v1", None))
            data = self.version(DATA, {"data.json": b'{"value": 0}'})
        else:
            data = f"{DATA}/v{n + 1}"
        new = f"v{n + 1}"
        self.story.contents[f"{SCREENED}/{new}"] = {"model.json": self.story.contents[data]["data.json"], "metadata.json": b'{"metrics": {"r2": 1}}'}
        with self.story.told("process update") as when:
            self.command("process", "update", "screening")
        self.story.commits[f"{SCREENED}/{new}"] = when
        self.bound.append((when, new, new))
        with self.story.told("evaluate") as when:
            self.command("evaluate", f"{SCREENED}/{new}", "--dataset", data, "--metrics", '{"r2": %d}' % n)
        self.evaluations.append(when)

    def backup(self):
        with self.story.told("backup") as when:
            self.command("backup", self.story.disk.top / "backup")
        self.backups.append(when)

    def deaths(self):
        """Of the worker, and of the program."""
        drive = self.story.drive
        restarts = attr(drive.at, "restarts")
        with self.story.told("a death"):
            drive.kill_worker()
            wait_until(lambda: attr(drive.at, "restarts") != restarts)
        with self.story.told("an upgrade"):
            run(binary(), "upgrade", drive.at)

    # ---- after the cut ----

    def claims(self, drive, noted):
        n, = rows(drive.store, "SELECT count(*) FROM evaluations")[0]
        assert sum(ack <= noted for _, ack in self.evaluations) <= n <= sum(begun <= noted for begun, _ in self.evaluations), f"{n} evaluations"
        self.associations(drive, noted)

    def associations(self, drive, noted):
        """Associations and the alias move together, at one moment."""
        possible = {(None, None)}
        for (begun, acknowledged), bound, alias in self.bound:
            if acknowledged <= noted:
                possible = {(bound, alias)}
            elif begun <= noted:
                possible.add((bound, alias))
        there = rows(drive.store, "SELECT 'v' || v.number FROM process_bindings b JOIN versions v ON v.id = b.model_id")
        alias = drive / SCREENED / "serving"
        seen = (there[0][0] if there else None, os.readlink(alias) if os.path.lexists(alias) else None)
        assert seen in possible, f"bound to {seen[0]}, serving leads to {seen[1]}: not one of {possible}"

    def backup_is_whole(self, drive, top, noted):
        """None yet, the old one or the new one; and the next goes on from it."""
        dest, begun = top / "backup", [b for b, _ in self.backups if b <= noted]
        if not (dest / "config.json").exists():
            assert not any(ack <= noted for _, ack in self.backups), "a backup was acknowledged, and is none"
        else:
            self.look_into(dest, max([b for b, ack in self.backups if ack <= noted], default=-1))
        if begun:
            mintfs("backup", dest, "--store", drive.store)
            self.look_into(dest, -1)

    def look_into(self, dest, since):
        r = run(binary(), "fsck", "--verify", dest, check=False)
        assert r.returncode == 0, f"fsck of the backup: {r.stdout}{r.stderr}"
        committed = {f"{m}/v{n}" for m, n in rows(dest, "SELECT m.path, v.number FROM versions v JOIN models m ON m.id = v.model_id WHERE v.state IN (1, 2)")}
        missing = {v for v, (_, ack) in self.story.commits.items() if ack <= since} - committed
        assert not missing, f"not in the backup: {missing}"
