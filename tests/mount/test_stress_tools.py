"""stress-ng's file-system stressors and fio's verified writes in a draft, which is then committed: neither finds anything wrong.

By default all stressors at once for two seconds; MINTFS_STRESS_SECONDS says for how long each of them runs alone instead."""
import os
import re
import shutil
import subprocess
import sys

import pytest

from drive import clean_env, commit, read, run, sha256, snapshot, wait_until, write

EACH = int(os.environ.get("MINTFS_STRESS_SECONDS", "0"))
DATA_PATHS = pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["passthrough", "by_the_daemon"])
# Of --class filesystem, and beside it what works on files. Left out: bind-mount, binderfs, eventfd, procfs (no files of a draft), fiemap and
# verity (a FUSE file system answers neither ioctl; stress-ng passes over them), xattr (attributes of users are refused: docs/reliability.md).
STRESSORS = """access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fanotify fcntl file-ioctl filename flock fpunch fsize
    fstat getdent handle hdd inode-flags inotify io iomix lease link locka lockf lockofd mknod open rename symlink sync-file touch utime
    aio seek splice sendfile readahead mmap mmapmany msync revio""".split()
QUICK = "chmod copy-file dentry dir fallocate filename flock fpunch getdent hdd link lockofd mmap open rename revio seek sendfile symlink touch utime".split()


def stress(draft, stressors, seconds):
    names = [x for s in stressors for x in ("--" + s, "1")]
    r = subprocess.run(["stress-ng", "--temp-path", str(draft), "--verify", "-t", str(seconds), "--hdd-bytes", "64m", "--mmap-bytes", "64m"] + names,
                       env=clean_env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wrong = [line for line in r.stdout.splitlines() if re.search(r"\bfail:|\berror:", line)]
    assert r.returncode == 0 and not wrong, f"{stressors}: exit {r.returncode}\n{r.stdout[-3000:]}"


@DATA_PATHS
@pytest.mark.seconds(60 + EACH * 2 * len(STRESSORS))
def test_the_stressors_of_stress_ng_find_nothing_wrong_in_a_draft(house, store, options):
    if not shutil.which("stress-ng"):
        pytest.skip("stress-ng is not installed")
    draft = house.mount(store, options=options).mint()
    write(draft / "model.pth", b"weights")
    if EACH:
        for one in STRESSORS:
            stress(draft, [one], EACH)
        print(f"{len(STRESSORS)} stressors, {EACH} s each", file=sys.stderr)
    else:
        stress(draft, QUICK, 2)
    left = [n for n in os.listdir(draft) if n != "model.pth"]
    assert not left, f"what the stressors made is still there: {left}"
    commit(draft)
    assert read(draft / "model.pth") == b"weights"


JOBS = """[global]
directory={draft}
size={size}
verify=crc32c
verify_fatal=1
do_verify=1
verify_async=1
randseed=20250715
group_reporting=1
[random-by-mapping]
ioengine=mmap
rw=randwrite
bs=4k
[random-by-pwrite]
ioengine=psync
rw=randwrite
bsrange=512-64k
fsync=64
[sequential-deep]
ioengine=libaio
iodepth=16
rw=write
bs=128k
numjobs=2
[trimmed]
ioengine=psync
rw=randwrite
bs=8k
fallocate=keep
end_fsync=1
"""


@DATA_PATHS
@pytest.mark.seconds(120 + EACH * 60)
def test_fio_reads_back_what_it_wrote_to_a_draft_and_so_does_everybody_after_the_commit(house, store, options):
    if not shutil.which("fio"):
        pytest.skip("fio is not installed")
    draft = house.mount(store, options=options).mint()
    jobs = house.folder / "jobs.fio"
    jobs.write_text(JOBS.format(draft=draft, size="512m" if EACH else "8m"))
    r = run("fio", "--output-format=terse", "--eta=never", jobs, check=False, cwd=house.folder)
    assert r.returncode == 0 and "verify:" not in r.stdout + r.stderr, r.stdout + r.stderr
    before = snapshot(draft, times=False)
    files = [n for n in before if n != b"."]
    assert len(files) == 5
    commit(draft)
    for name in files:
        assert sha256(read(draft / os.fsdecode(name))) == before[name][-1], name


def has_io_uring():
    """Containers and careful administrators switch it off."""
    probe = run("fio", "--name=probe", "--ioengine=io_uring", "--rw=read", "--size=4k", "--filename=/dev/zero", "--output-format=terse", check=False)
    return probe.returncode == 0


@DATA_PATHS
@pytest.mark.seconds(120)
def test_requests_of_io_uring_see_nothing_of_the_death_of_workers(house, store, options):
    """With registered files and buffers, and requests under way whenever a worker is killed."""
    if not shutil.which("fio") or not has_io_uring():
        pytest.skip("fio, or io_uring, is not there")
    drive = house.mount(store, options=options + ("deaths=0",))
    draft = drive.mint()
    ring = ["--name=ring", "--ioengine=io_uring", "--registerfiles=1", "--fixedbufs=1", "--iodepth=16", "--bs=8k", "--size=8m", "--output-format=terse"]

    def meanwhile(*more):
        fio = house.start(" ".join(["exec fio", *ring, *more]), cwd=house.folder)
        deaths = 0
        wait_until(lambda: fio.poll() is not None or any(os.path.getsize(f) for f in draft.glob("ring*")), what="the first writes")
        while fio.poll() is None:
            drive.wait_worker(drive.kill_worker())
            deaths += 1
        out, err = fio.communicate()
        assert fio.returncode == 0 and deaths > 0, f"{deaths} deaths: {out}\n{err}"

    meanwhile(f"--directory={draft}", "--rw=randrw", "--fsync=4", "--numjobs=2", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0")
    write(draft / "model.pth", b"weights")
    commit(draft)
    files = {f.name: sha256(read(f)) for f in draft.glob("ring*")}
    assert len(files) == 2
    meanwhile("--filename=" + ":".join(str(draft / name) for name in files), "--rw=randread", "--readonly", "--time_based", "--runtime=1")
    assert {f.name: sha256(read(f)) for f in draft.glob("ring*")} == files
