"""bench/run.py [--full] [--only TOPIC[.PART],...] [--turns N] [--merge] [--keep DIR] --out DIR: runs the topics and writes results.json, README.md and ratios.svg. scripts/bench calls it.

Ends with 1 where something could not be run or gave a wrong result; a target that is missed is a result like others."""
import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
import harness  # noqa: E402
import report  # noqa: E402

TOPICS = ("catalog", "save", "read", "commit", "names", "bundle", "training")


def arguments():
    p = argparse.ArgumentParser(description="runs the benchmarks of MintFS")
    p.add_argument("--full", action="store_true")
    p.add_argument("--only", default=",".join(TOPICS), help="topics: " + ", ".join(TOPICS) + "; TOPIC.PART is a function of topic_TOPIC.py")
    p.add_argument("--turns", type=int, default=0, help="repetitions, if not the usual 5 (full) or 2")
    p.add_argument("--merge", action="store_true", help="rows that were not measured now stay as the results in the directory have them")
    p.add_argument("--keep", type=Path, help="work in this directory and leave in it what was made: ext4 is slow where many files were removed a moment ago")
    p.add_argument("--out", required=True, type=Path)
    a = p.parse_args()
    a.only = a.only.split(",")
    for name in {n.split(".")[0] for n in a.only} - set(TOPICS):
        p.error(f"there is no topic {name}")
    return a


def on_overlay(path):
    return harness.run("stat", "-f", "-c", "%T", path).strip() == "overlayfs"


def work_folder(keep):
    """On a file system that passthrough accepts, where there is one."""
    for base in [keep] if keep else (tempfile.gettempdir(), "/var/tmp"):
        if os.path.isdir(base) and not on_overlay(base):
            break
    folder = Path(tempfile.mkdtemp(prefix="mintfs-bench-", dir=base)).resolve()
    folder.chmod(0o755)
    harness.run("chattr", "+T", folder, check=False)  # ext4: what lies below are separate trees, to be spread over the disk
    return folder


def machine(folder):
    """What a reader needs to judge the numbers; nothing that names this machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kernel": ".".join(os.uname().release.split("-")[0].split(".")[:2]), "processors": os.cpu_count(), "memory_gib": round(pages / 2**30),
        "file_system": harness.run("findmnt", "-n", "-o", "FSTYPE", "-T", folder).strip(), "mintfs": harness.mintfs("version").split("\n")[0], "root": os.geteuid() == 0,
    }


def rest_below(folder):
    """Unmounts what a failed benchmark left mounted below the folder."""
    with open("/proc/self/mounts", errors="surrogateescape") as f:
        points = [line.split()[1].encode(errors="surrogateescape").decode("unicode_escape") for line in f]
    for point in reversed(points):
        if point.startswith(f"{folder}/"):
            harness.run("umount", "-l", point, check=False)
            harness.run("fusermount3", "-uz", point, check=False)


def clean_up(folder, keep):
    rest_below(folder)
    if keep:
        return
    harness.run("chattr", "-R", "-f", "-i", folder, check=False)
    harness.run("chmod", "-R", "u+w", folder, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def merged(old, new, again):
    """One after the other on one machine. What failed before in a part that was measured again is no failure any more."""
    if old["setting"] != new["setting"]:
        raise SystemExit(f"--merge: the results there are of the setting {old['setting']}")
    for key in ("skipped", "failed"):
        new[key] += [what for what in old[key] if what not in new[key] and what.partition(":")[0] not in again]
    new["turns"] = min(old["turns"], new["turns"])
    return {**new, "rows": {**old["rows"], **new["rows"]}}


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    a = arguments()
    for name in harness.RUN_IDS:
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, interrupted)
    folder = work_folder(a.keep)
    bench = harness.Bench(a.full, folder, a.turns)
    start = harness.clock()
    name = "all"
    try:
        facts = machine(folder)
        for name in a.only:
            begin = harness.clock()
            try:
                topic, _, part = name.partition(".")
                bench.topic = topic
                getattr(importlib.import_module("topic_" + topic), part or "main")(bench)
            except Exception as e:
                bench.failures.append(f"{name}: {e}")
                if not isinstance(e, harness.Failed):
                    traceback.print_exc()
                rest_below(folder)
            bench.say(f"-- {name}: {harness.clock() - begin:.0f} s")
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        bench.failures.append(f"{name}: interrupted; the rows measured so far are written")
    finally:
        clean_up(folder, a.keep)
    results = {"setting": "full" if a.full else "short", "machine": facts, "turns": bench.turns, "skipped": bench.skipped, "failed": bench.failures,
               "rows": {row.key: row.summary() for row in bench.rows}}
    if a.merge and (a.out / "results.json").exists():
        results = merged(json.loads((a.out / "results.json").read_text()), results, a.only)
    results["rows"] = dict(sorted(results["rows"].items(), key=lambda r: TOPICS.index(r[1]["topic"])))
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (a.out / "README.md").write_text(report.markdown(results))
    (a.out / "ratios.svg").write_text(report.svg(results))
    readme = Path(__file__).resolve().parent.parent / "README.md"
    if a.out.resolve() == readme.parent / "docs/performance":
        readme.write_text(report.into_readme(readme.read_text(), results))
    for what in bench.skipped:
        print(f"skipped: {what}")
    for what in bench.failures:
        print(f"failed: {what}")
    missed = report.missed(results)
    for text in missed:
        print(f"missed: {text}")
    print(f"{len(bench.rows)} rows in {harness.clock() - start:.0f} s, {len(missed)} targets missed, {len(bench.failures)} failures")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
