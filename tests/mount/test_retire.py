"""Retirement on a real drive: who stands in a version, who reads it, what the kernel believes, who may do it."""
import errno
import mmap
import os
import subprocess

import pytest

from drive import MODEL, apart, attr, mintfs, read, reason, refused, run, sha256, wait_until, write


BIG = 256 << 10  # smaller files are opened without a trace (docs/design/fs.md)


def content(text):
    return text.encode().ljust(BIG, b".")


def retire(drive, name, force=False, message=""):
    os.setxattr(drive / MODEL, "user.mintfs.retire", f"{name}{' force' if force else ''}\n{message}".encode())


def blob_of(drive, data):
    digest = sha256(data)
    return drive.store / "blobs" / digest[:2] / digest[2:]


def test_a_retired_version_is_gone_at_once_for_who_asked_and_soon_for_all(drive):
    v1 = drive.committed()
    drive.committed()
    assert os.listdir(v1)
    retire(drive, "v1")
    wait_until(lambda: not os.path.lexists(v1), what="the kernel is told")
    assert sorted(os.listdir(drive / MODEL)) == ["latest", "v2"]
    assert drive.versions_json() == {"product_P001_all_mlstm": 2}
    with refused(errno.EEXIST):
        os.mkdir(v1)


def test_who_has_a_file_open_or_stands_in_a_version_retired_by_force_goes_on(drive):
    v1 = drive.committed(files={"model.pth": content("weights")})
    drive.committed()
    with open(v1 / "model.pth", "rb") as f:
        here = os.open(v1, os.O_RDONLY | os.O_DIRECTORY)
        with refused(errno.EBUSY):
            retire(drive, "v1")
        assert "in use" in reason(drive / MODEL)
        retire(drive, "v1", force=True)
        wait_until(lambda: not os.path.lexists(v1))
        assert f.read() == content("weights")
        assert read(f"/proc/self/fd/{here}/model.pth") == content("weights")
        mintfs("gc", drive.store, "--grace", "0")
        assert not blob_of(drive, content("weights")).exists()
        f.seek(0)
        assert f.read() == content("weights"), "what is open stays readable"
    with pytest.raises(OSError):
        read(f"/proc/self/fd/{here}/metadata.json")
    os.close(here)


def test_a_mapping_holds_a_version_though_its_file_is_closed(drive):
    v1 = drive.committed(files={"model.pth": content("weights")})
    drive.committed()
    with open(v1 / "model.pth", "rb") as f:
        m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    done = mintfs("retire", v1, check=False)
    assert done.returncode == 1 and "in use" in done.stderr
    m.close()
    wait_until(lambda: mintfs("retire", v1, check=False).returncode == 0, what="the mapping is gone")


def test_a_content_that_another_version_holds_too_stands_in_nobodys_way(drive):
    v1 = drive.committed(files={"model.pth": content("the same")})
    v2 = drive.committed(files={"model.pth": content("the same")})
    with open(v2 / "model.pth", "rb"):
        wait_until(lambda: mintfs("retire", v1, check=False).returncode == 0)
    assert read(v2 / "model.pth") == content("the same")


def test_a_version_that_is_open_on_another_mount_is_not_retired(house, drive):
    v1 = drive.committed(files={"model.pth": content("mine alone")})
    drive.committed()
    other = house.mount(drive.store, "other", options=("ro",))
    with open(other / MODEL / "v1/model.pth", "rb"):
        done = mintfs("retire", v1, check=False)
        assert done.returncode == 1 and "in use" in done.stderr
    wait_until(lambda: mintfs("retire", v1, check=False).returncode == 0)
    wait_until(lambda: not os.path.lexists(other / MODEL / "v1"), what="the other mount's second is over")


def test_an_alias_holds_a_version_and_is_named(drive):
    v1 = drive.committed()
    os.symlink("v1", drive / MODEL / "production")
    with refused(errno.EBUSY):
        retire(drive, "v1")
    assert "production" in reason(drive / MODEL)
    retire(drive, "v1", force=True)
    assert not os.path.lexists(drive / MODEL / "production")
    wait_until(lambda: not os.path.lexists(v1))


@pytest.mark.parametrize("value, number", [("v7", errno.ENOENT), ("latest", errno.EINVAL), ("", errno.EINVAL), ("v1 please", errno.EINVAL), ("v1/..", errno.EINVAL)])
def test_what_is_no_version_is_refused(drive, value, number):
    v1 = drive.committed()
    with refused(number):
        os.setxattr(drive / MODEL, "user.mintfs.retire", value.encode())
    with refused(errno.EOPNOTSUPP):
        os.setxattr(drive / "product", "user.mintfs.retire", b"v1")
    with refused(errno.EINVAL):
        draft = drive.mint()
        retire(drive, draft.name)
    assert v1.is_dir()


def test_a_version_is_retired_by_its_maker_and_by_the_owner_of_the_model_not_by_others(house, store):
    drive = house.mount(store, options=("allow_other",))
    os.chmod(drive.model(), 0o777)
    v1 = drive.committed()

    def train():
        v = drive.mint()
        write(v / "model.pth", b"of somebody else")
        os.chmod(v, 0o555)
        return v
    v2 = apart(train, uid=12345)
    v3 = drive.committed()

    def attempt(name):
        with refused(errno.EACCES):
            os.setxattr(drive / MODEL, "user.mintfs.retire", name.encode())
    apart(attempt, "v1", uid=12345)
    assert "v1" in reason(drive / MODEL) and v1.is_dir()
    apart(lambda: os.setxattr(drive / MODEL, "user.mintfs.retire", b"v2"), uid=12345)
    wait_until(lambda: not os.path.lexists(v2))
    os.chown(drive / MODEL, 23456, 23456)
    os.chmod(drive / MODEL, 0o755)
    apart(attempt, "v3", uid=12345)
    apart(lambda: os.setxattr(drive / MODEL, "user.mintfs.retire", b"v3"), uid=23456)
    wait_until(lambda: not os.path.lexists(v3))


def test_a_message_is_kept_and_retired_versions_survive_a_remount(drive):
    drive.committed()
    drive.committed()
    retire(drive, "v1", message="wrong prices")
    drive.remount()
    assert sorted(n for n in os.listdir(drive / MODEL) if n[0] == "v") == ["v2"]
    assert "retired" in mintfs("log", drive / MODEL, "--json").stdout
