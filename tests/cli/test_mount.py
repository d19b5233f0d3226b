"""mount and umount: what they refuse, who is named, what a killed daemon leaves, and what mount(8) passes on."""
import json
import os
import shutil
import signal
import subprocess

import pytest

from cli_env import BIN, at_work, call, can_mount, one_sentence, wait_for

M = "product/P001_all/mlstm"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")


def kill_all(pid):
    """kill -9 of a drive's keeper and of all it has started, before any of them can clear up."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        rest = [int(p) for p in f.read().split()]
    for p in rest:
        os.kill(p, signal.SIGSTOP)
    for p in [pid, *rest]:
        os.kill(p, signal.SIGKILL)


def test_mount_says_why_it_cannot(store, place):
    one_sentence(call("mount", store, place / "missing"), 3, "mkdir")
    (place / "file").touch()
    one_sentence(call("mount", store, place / "file"), 1, "not a directory")
    (place / "mnt").mkdir()
    one_sentence(call("mount", place / "nothing", place / "mnt"), 3, "mintfs init")
    assert call("mount", store).code == 2 and call("mount", store, place / "mnt", "-o", "wrong").code == 2


@as_root
@pytest.mark.skipif(not can_mount(), reason="needs /dev/fuse")
def test_a_store_on_a_file_system_that_is_read_only_is_told_how_it_is_mounted(place):
    disk, at = place / "disk", place / "mnt"
    disk.mkdir()
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
    try:
        assert call("init", disk / "store").code == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        one_sentence(call("mount", disk / "store", at), 1, "-o ro")
        assert call("mount", disk / "store", at, "-o", "ro").code == 0
        assert (at / "versions.json").read_text() == "{}\n"
        assert call("umount", at).code == 0
    finally:  # a drive that may not write is in no record, so its end is not waited for
        assert wait_for(lambda: subprocess.run(["umount", disk], stderr=subprocess.DEVNULL).returncode == 0)


def test_a_busy_mount_point_is_refused_and_the_drive_stays(drive):
    one_sentence(call("mount", drive.store, drive.dir), 1, "busy")
    assert json.loads(drive.path("versions.json").read_text()) == {}


def test_umount_frees_the_store_before_it_returns(drive):
    pid = call("status", drive.store, "--json").json["mounts"][0]["pid"]
    done = drive.umount()
    assert (done.code, done.out, done.err) == (0, "", "")
    assert not at_work(pid) and not os.path.ismount(drive.dir)
    one_sentence(drive.umount(), 1, "no MintFS drive")
    drive.mount()


def test_umount_names_who_uses_the_drive(drive):
    holder = subprocess.Popen(["sleep", "100"], cwd=drive.model())
    try:
        one_sentence(drive.umount(), 1, f"sleep ({holder.pid})")
        one_sentence(call("umount", drive.path("product")), 1, f"mounted on {drive.dir}")
        inside = call("umount", drive.dir, cwd=drive.dir)
        one_sentence(inside, 1, f"sleep ({holder.pid})")
        assert ", mintfs (" not in inside.err and "by mintfs (" not in inside.err
    finally:
        holder.kill()
        holder.wait()


def process_state(pid):
    """Its name and its state."""
    with open(f"/proc/{pid}/stat") as f:
        head, tail = f.read().rsplit(")", 1)
    return head.split("(", 1)[1], tail.split()[0]


def test_umount_waits_for_who_only_looks_at_the_drive_for_a_moment(drive):
    """As each df does at all that is mounted. Here the drive's worker stands still, so that the moment has no end before it goes on."""
    pid = call("status", drive.store, "--json").json["mounts"][0]["pid"]
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        worker = next(int(p) for p in f.read().split() if process_state(p)[0] == "mintfs-worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        looker = subprocess.Popen(["stat", "-f", drive.dir], cwd="/", stdout=subprocess.DEVNULL)
        assert wait_for(lambda: process_state(looker.pid) == ("stat", "S")), process_state(looker.pid)
        umount = subprocess.Popen([BIN, "umount", drive.dir], cwd="/", stderr=subprocess.PIPE, text=True)
        wait_for(lambda: umount.poll() is not None or open(f"/proc/{umount.pid}/wchan").read().endswith("nanosleep"))  # it was refused once
    finally:
        os.kill(worker, signal.SIGCONT)
    err = umount.communicate(timeout=60)[1]
    assert looker.wait() == 0 and (umount.returncode, err) == (0, "")
    assert not os.path.ismount(drive.dir)


def test_a_lazy_umount_takes_a_busy_drive_away_and_its_daemon_ends_after_the_last_user(drive):
    pid = call("status", drive.store, "--json").json["mounts"][0]["pid"]
    holder = subprocess.Popen(["sleep", "100"], cwd=drive.model())
    assert call("umount", "-l", drive.dir).code == 0 and not os.path.ismount(drive.dir)
    assert at_work(pid)
    holder.kill()
    holder.wait()
    assert wait_for(lambda: not at_work(pid))


def test_a_draft_whose_daemon_was_killed_can_be_committed_by_name(drive):
    drive.mint({"model.bin": "x"})
    pid = call("status", drive.store, "--json").json["mounts"][0]["pid"]
    kill_all(pid)
    assert wait_for(lambda: not at_work(pid))
    assert call("status", drive.store, "--json").json["mounts"] == []
    assert call("commit", f"{M}/v1", "--store", drive.store, "--json").json["state"] == "committed"
    assert call("umount", drive.dir).code == 0


def test_a_drive_whose_daemon_was_killed_is_cleared_by_umount_and_by_mount(drive):
    draft = drive.mint({"model.bin": "x"})
    for clear in (drive.umount, lambda: None):
        pid = call("status", drive.store, "--json").json["mounts"][0]["pid"]
        kill_all(pid)
        assert wait_for(lambda: not at_work(pid))
        one_sentence(call("list", drive.dir), 1, "lost its daemon")
        done = clear()
        assert done is None or done.code == 0, done.err
        drive.mount()
    assert (draft / "model.bin").read_text() == "x"


@as_root
def test_mount_helper_takes_what_mount_8_gives(store, place):
    if not can_mount():
        pytest.skip("no /dev/fuse")
    (place / "mnt").mkdir()
    os.symlink(shutil.which(BIN), place / "mount.mintfs")
    subprocess.run([place / "mount.mintfs", str(store), str(place / "mnt"), "-f"], check=True, timeout=30)  # mount -f: all but the mount
    assert not os.path.ismount(place / "mnt")
    subprocess.run([place / "mount.mintfs", str(store), str(place / "mnt"), "-n", "-s", "-o", "rw,nofail,noatime,x-systemd.automount"], check=True)
    assert os.path.ismount(place / "mnt")
    assert call("umount", place / "mnt").code == 0


@as_root
def test_a_remount_is_refused_with_what_to_do(drive, place):
    """mount -o remount finds the type fuse.mintfs in /proc/self/mountinfo, hence another helper, and adds what the kernel shows there."""
    for name, option in (("mount.fuse.mintfs", "ro,nosuid,nodev,relatime,remount,user_id=0,group_id=0,default_permissions,allow_other"), ("mount.mintfs", "rw,remount")):
        helper = place / name
        os.symlink(shutil.which(BIN), helper)
        done = subprocess.run([helper, str(drive.store), str(drive.dir), "-o", option, "-t", "fuse.mintfs"], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert f"mintfs umount {drive.dir}" in done.stderr and f"mintfs mount {drive.store} {drive.dir} -o {option[:2]}" in done.stderr
    assert drive.model().is_dir(), "it is mounted as before"


@as_root
def test_type_fuse_mintfs_mounts_too(store, place):
    if not can_mount():
        pytest.skip("no /dev/fuse")
    (place / "mnt").mkdir()
    os.symlink(shutil.which(BIN), place / "mount.fuse.mintfs")
    subprocess.run([place / "mount.fuse.mintfs", str(store), str(place / "mnt"), "-o", "rw", "-t", "fuse.mintfs"], check=True)
    assert os.path.ismount(place / "mnt")
    assert call("umount", place / "mnt").code == 0


@pytest.mark.parametrize("entries, words", [(0, None), (1, "its 1 entry is hidden"), (3, "its 3 entries are hidden"), (1001, "more than 1000 entries are hidden")])
def test_mounting_over_files_warns_that_they_are_hidden(store, place, entries, words):
    if not can_mount():
        pytest.skip("no /dev/fuse")
    (place / "mnt").mkdir()
    for n in range(entries):
        (place / "mnt" / str(n)).touch()
    done = call("mount", store, place / "mnt")
    assert done.code == 0 and os.path.ismount(place / "mnt")
    assert call("umount", place / "mnt").code == 0
    assert words in done.err and str(place / "mnt") in done.err if words else done.err == "", done.err
    assert len(os.listdir(place / "mnt")) == entries
