"""The directories above the versions: the grammar and its refusals, models, versions.json."""
import contextlib
import errno
import json
import mmap
import os
import socket
import stat
from pathlib import Path

import pytest

from drive import MODEL, apart, attr, commit, mount_lines, read, refused, run, sh, snapshot, wait_until, write

MODELS = [
    "product/P001_all/mlstm", "product/P001_S001/transformer", "product/P_0_1_all/kan", "product/阿莫西林_胶囊_all/模型-一", "store/S001_P002/transformer",
    "store/S001_all/kan", "global/all/sum/kan", "global/stores/S001/mean/kan", "global/products/P-1/sum/kan", "global/custom/S001/P001/sum/kan",
]


@pytest.mark.parametrize("path", MODELS)
def test_every_shape_of_the_grammar_can_be_made_by_mkdir_p(drive, path):
    run("mkdir", "-p", drive / path)
    assert os.listdir(drive / path) == []
    run("mkdir", drive / path / "latest")
    assert os.path.isdir(drive / path / "v1")


def test_a_model_without_versions_survives_a_remount(drive):
    for path in MODELS:
        os.makedirs(drive / path)
    drive.remount()
    for path in MODELS:
        assert os.path.isdir(drive / path)
    assert sorted(os.listdir(drive.at)) == ["dataset", "global", "process", "product", "store", "versions.json"]


@pytest.mark.parametrize("path", [
    "models", "Product", "product/P001", "product/_all", "product/P001_", "product/P001_all/v1", "product/P001_all/latest", "product/P001_all/next",
    "product/P001_all/best", "product/.P001_all", "product/P001 _all ", "product/P001_all/ml\nstm", "store/S001", "global/some", "global/custom/v3",
    "global/stores/latest", "global/all/v12",
], ids=repr)
def test_mkdir_outside_the_grammar_is_einval(drive, path):
    parent = os.path.dirname(path)
    if parent not in ("", "product", "store", "global"):
        os.makedirs(drive / parent)
    with refused(errno.EINVAL):
        os.mkdir(drive / path)
    assert os.path.basename(path) not in os.listdir(drive / parent)


@pytest.mark.parametrize("name", ["v0", "v01", "v9999999999", "v-1", "model", "best_of", ".hidden", "v1.0"])
def test_mkdir_in_a_model_makes_versions_only(model, name):
    with refused(errno.EINVAL):
        os.mkdir(model / name)
    assert os.listdir(model) == []


def test_mkdir_best_is_eperm(model):
    with refused(errno.EPERM):
        os.mkdir(model / "best")


def test_ids_of_invalid_utf8_are_einval(drive):
    with refused(errno.EINVAL):
        os.mkdir(os.fsencode(drive / "product") + b"/P\xff\xfe_all")
    with refused(errno.EINVAL):
        os.mkdir(os.fsencode(drive.model()) + b"/\xc3")


def test_ids_of_255_bytes_work_and_one_more_is_refused(drive):
    longest = "P" * 251 + "_all"
    v = drive.committed(f"product/{longest}/{'m' * 255}")
    assert (v / "model.pth").exists()
    assert list(drive.versions_json()) == [f"product_{longest}_{'m' * 255}"]
    with refused(errno.ENAMETOOLONG, errno.EINVAL):
        os.mkdir(drive / f"product/{'P' * 252}_all")
    assert drive.rows()[0]["model_identifier"] == f"product_{longest}"


def test_files_outside_a_version_are_eperm(drive, model):
    for place in (drive.at, drive / "product", drive / "product/P001_all", model):
        with refused(errno.EPERM):
            open(place / "model.pth", "w")
        with refused(errno.EPERM):
            os.mknod(place / "fifo", stat.S_IFIFO | 0o600)
        with refused(errno.EPERM):
            os.mknod(place / "file", stat.S_IFREG | 0o600)
        with socket.socket(socket.AF_UNIX) as s, refused(errno.EPERM):
            os.chdir(place)
            s.bind("sock")
        os.chdir("/")
        with refused(errno.EPERM, errno.EOPNOTSUPP):
            os.open(place, os.O_TMPFILE | os.O_RDWR)
    for place in (drive.at, drive / "product", drive / "product/P001_all"):
        with refused(errno.EPERM):
            os.symlink("v1", place / "production")


def test_a_hard_link_into_a_model_is_eperm(drive, draft):
    write(draft / "model.pth", b"x")
    with refused(errno.EPERM, errno.EXDEV):
        os.link(draft / "model.pth", draft.parent / "model.pth")
    with refused(errno.EPERM, errno.EXDEV):
        os.rename(draft / "model.pth", draft.parent / "model.pth")
    assert read(draft / "model.pth") == b"x"


def test_versions_and_models_keep_their_names(drive):
    v1 = drive.committed()
    v2 = drive.mint()
    m = v1.parent
    for a, b in ((v1, m / "v9"), (v2, m / "v9"), (v1, v2), (m, m.parent / "other"), (drive / "product", drive / "store")):
        with refused(errno.EPERM, errno.EROFS, errno.EXDEV, errno.EEXIST):
            os.rename(a, b)
    assert sorted(os.listdir(m)) == ["latest", "v1", "v2"]


def test_two_paths_with_one_key_are_refused_and_the_reason_names_the_other(drive):
    drive.model("global/custom/A_B/C/sum/kan")
    os.makedirs(drive / "global/custom/A/B_C/sum")
    with refused(errno.EEXIST):
        os.mkdir(drive / "global/custom/A/B_C/sum/kan")
    assert not os.path.exists(drive / "global/custom/A/B_C/sum/kan")
    said = attr(drive / "global/custom/A/B_C/sum", "error")
    assert "global_custom_A_B_C_sum_kan" in said and "global/custom/A_B/C/sum/kan" in said


def test_a_refusal_says_why_where_a_user_looks(drive, model):
    with refused(errno.EINVAL):
        os.mkdir(drive / "product/P001")
    assert "P001" in attr(drive / "product", "error")
    with refused(errno.EPERM):
        open(model / "model.pth", "w")
    assert "mkdir" in attr(model, "error") and "latest" in attr(model, "error")
    assert "P001" in drive.log_text()


def test_an_empty_model_can_be_removed_and_a_model_with_versions_cannot(drive):
    empty = drive.model("store/S001_all/kan")
    os.rmdir(empty)
    os.rmdir(empty.parent)
    assert os.listdir(drive / "store") == []
    v = drive.committed()
    with refused(errno.ENOTEMPTY):
        os.rmdir(v.parent)
    with refused(errno.ENOTEMPTY):
        os.rmdir(v.parent.parent)
    for mode in ("product", "store", "global"):
        with refused(errno.EPERM, errno.ENOTEMPTY):
            os.rmdir(drive / mode)


def test_a_model_removed_and_made_again_goes_on_counting(drive):
    v1 = drive.mint()
    os.rmdir(v1)
    os.rmdir(v1.parent)
    assert drive.mint().name == "v2"


def test_who_stands_in_a_removed_model_does_not_keep_it_from_being_made_again(drive):
    os.rmdir(drive.mint())
    model = drive / MODEL
    there = os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in (2, 3):
            old = os.stat(model).st_ino
            os.rmdir(model)
            os.mkdir(model)
            new = os.stat(model).st_ino
            assert new != old and next(e.inode() for e in os.scandir(model.parent) if e.name == model.name) == new
            assert drive.mint().name == f"v{number}" and sorted(os.listdir(model)) == ["latest", f"v{number}"]
            for act in (lambda: os.mkdir("latest", dir_fd=there), lambda: os.listdir(there), lambda: os.stat("v1", dir_fd=there), lambda: os.fchmod(there, 0o700)):
                with refused(errno.ENOENT):
                    act()
            os.rmdir(model / f"v{number}")
    finally:
        os.close(there)


def test_a_model_that_was_made_again_is_the_same_directory_for_the_next_worker(drive):
    os.rmdir(drive.mint())
    model = drive / MODEL
    os.rmdir(model)
    os.mkdir(model)
    inode, there = os.stat(model).st_ino, os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chmod(model, 0o2750)
        drive.wait_worker(drive.kill_worker())
        os.mkdir("latest", dir_fd=there)
        assert os.fstat(there).st_ino == inode and sorted(os.listdir(there)) == ["latest", "v2"]
    finally:
        os.close(there)
    drive.remount()
    assert os.stat(model).st_ino == inode and stat.S_IMODE(os.stat(model).st_mode) == 0o2750


def test_sixteen_mkdir_p_of_one_tree_at_once_all_succeed(house, drive):
    tree = drive / "global/custom/S001/P001/sum/kan"
    together = [house.start(f"read go; exec mkdir -p '{tree}'") for _ in range(16)]
    for p in together:
        p.stdin.write("go\n")
        p.stdin.flush()
    for p in together:
        assert p.wait(30) == 0, p.stderr.read()
    assert os.path.isdir(tree)


def test_directories_keep_mode_owner_and_group_over_a_remount(drive):
    scope = drive.model("store/S001_P001/kan").parent
    os.chmod(scope, 0o2775)
    os.chown(scope, 4001, 4002)
    before = os.stat(scope)
    drive.remount()
    after = os.stat(scope)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, 4001, 4002)
    os.mkdir(scope / "mlstm")
    assert os.stat(scope / "mlstm").st_gid == 4002
    assert os.stat(scope / "mlstm").st_mode & stat.S_ISGID


def test_mkdir_keeps_to_the_umask(drive):
    def make():
        os.makedirs(drive / "product/P7_all/kan")
        os.mkdir(drive / "product/P7_all/kan/latest")

    apart(make, umask=0o027)
    for path in ("product/P7_all", "product/P7_all/kan", "product/P7_all/kan/v1"):
        assert stat.S_IMODE(os.stat(drive / path).st_mode) == 0o750


def test_ls_find_and_du_walk_over_the_whole_drive(drive):
    for path in MODELS[:4]:
        drive.committed(path)
        drive.mint(path)
    sh("ls -lR .", cwd=drive.at)
    sh("du -s .", cwd=drive.at)
    found = sh("find . -name model.pth", cwd=drive.at).stdout.split()
    assert sorted(found) == sorted(f"./{p}/v1/model.pth" for p in MODELS[:4])
    links = sh("find . -type l", cwd=drive.at).stdout.split()
    assert {os.path.basename(p) for p in links} == {"latest"}


def test_a_listing_and_a_stat_agree_about_inode_numbers(drive):
    v = drive.committed(files={"model.pth": b"x", "sub/a": b"y"})
    d = drive.mint()
    write(d / "model.pth", b"z")
    os.mkdir(d / "dir")
    for here in (drive.at, drive / "product", v.parent, v, v / "sub", d):
        seen = set()
        for e in os.scandir(here):
            assert e.inode() == os.lstat(e.path).st_ino, e.path
            seen.add(e.inode())
        assert len(seen) == len(os.listdir(here))


# ---- versions.json ----


def test_versions_json_holds_the_newest_committed_number_of_every_model(drive):
    assert drive.versions_json() == {}
    drive.committed()
    drive.committed()
    drive.mint()
    drive.committed("global/all/sum/kan")
    drive.model("store/S001_all/kan")
    assert drive.versions_json() == {"product_P001_all_mlstm": 2, "global_all_sum_kan": 1}


def test_versions_json_of_chinese_ids_is_readable_text(drive):
    drive.committed("product/阿莫西林_all/mlstm")
    assert "product_阿莫西林_all_mlstm" in (drive / "versions.json").read_text(encoding="utf-8")


def test_versions_json_is_never_stale(drive):
    with open(drive / "versions.json") as early:
        for n in range(1, 30):
            drive.committed()
            assert json.loads(read(drive / "versions.json")) == {"product_P001_all_mlstm": n}
            assert os.stat(drive / "versions.json").st_size == len(read(drive / "versions.json"))
        assert json.load(early) == {}, "who opened it reads the state of that moment"


def texts_held(drive):
    """How many texts of versions.json the drive holds in memory for who has them open."""
    fds = Path(f"/proc/{drive.worker()}/fd")
    held = set()
    for fd in os.listdir(fds):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(fds / fd).startswith("/memfd:versions.json"):
                held.add(os.stat(fds / fd).st_ino)
    return len(held)


def test_readers_of_one_state_of_versions_json_share_its_text(drive):
    path = drive / "versions.json"
    states = []
    for n in range(3):
        with contextlib.ExitStack() as readers:
            files = [readers.enter_context(open(path)) for _ in range(20)]
            wait_until(lambda: texts_held(drive) == max(1, len(states)), what="one text for all who read the same")
            drive.committed(files={"model.pth": b"%d" % n})
            for f in files:
                assert json.load(f) == ({"product_P001_all_mlstm": n} if n else {})
            states.append(os.open(path, os.O_RDONLY))
    for n, fd in enumerate(states):
        text = os.read(fd, 1000)
        assert json.loads(text) == {"product_P001_all_mlstm": n + 1} and os.pread(fd, 5, 1) == text[1:6]
        os.close(fd)
    wait_until(lambda: texts_held(drive) == 1, what="that what nobody reads is let go")
    assert os.stat(path).st_size == len(path.read_bytes())


def test_versions_json_can_be_copied_and_mapped(drive, house):
    drive.committed()
    run("cp", "-a", drive / "versions.json", house.folder / "copy.json")
    assert read(house.folder / "copy.json") == read(drive / "versions.json")
    with open(drive / "versions.json", "rb") as f:
        for how in ({"prot": mmap.PROT_READ, "flags": mmap.MAP_PRIVATE}, {"access": mmap.ACCESS_READ}):
            with mmap.mmap(f.fileno(), 0, **how) as m:
                assert json.loads(m[:]) == {"product_P001_all_mlstm": 1}


def test_versions_json_cannot_be_changed_by_anybody(drive):
    path = drive / "versions.json"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444
    before = read(path)
    changes = [lambda: open(path, "w"), lambda: open(path, "a"), lambda: os.truncate(path, 0), lambda: os.unlink(path), lambda: os.rename(path, drive / "x"),
               lambda: os.chmod(path, 0o644), lambda: os.chown(path, 1, 1), lambda: os.utime(path, (1, 1))]
    for change in changes:
        with refused(errno.EROFS, errno.EPERM):
            change()
    assert read(path) == before


def test_find_by_the_shell_sees_versions_in_the_order_of_their_numbers(drive):
    for _ in range(3):
        drive.committed()
    names = os.listdir(drive / MODEL)
    assert [n for n in names if n[0] == "v"] == ["v1", "v2", "v3"]


# ---- many versions ----


@pytest.mark.seconds(120)
def test_a_listing_of_2000_versions_is_whole_and_without_doubles_while_versions_are_minted(house, drive, model):
    def mint_all():
        for n in range(1501, 2001):
            os.mkdir(model / f"v{n}")

    for n in range(1, 1501):
        os.mkdir(model / f"v{n}")
    minter = os.fork()
    if minter == 0:
        try:
            mint_all()
            os._exit(0)
        except BaseException:
            os._exit(1)
    rounds, least = 0, 1500
    while True:
        done, status = os.waitpid(minter, os.WNOHANG)
        names = [n for n in os.listdir(model) if n[0] == "v"]
        assert len(names) == len(set(names))
        numbers = sorted(int(n[1:]) for n in names)
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= least
        least = len(numbers)
        rounds += 1
        if done:
            break
    assert status == 0 and least == 2000 and rounds > 1


def test_statfs_tells_of_the_store_s_file_system(drive):
    a, b = os.statvfs(drive.at), os.statvfs(drive.store)
    assert (a.f_bsize, a.f_blocks, a.f_namemax) == (b.f_bsize, b.f_blocks, 255)


def test_the_drive_says_what_is_mounted(drive):
    (line,) = [x for x in mount_lines() if x[1] == str(drive.at)]
    assert line[0] == str(drive.store) and line[2] == "fuse.mintfs"


def test_a_snapshot_of_the_drive_is_the_same_after_a_remount(drive):
    drive.committed(files={"model.pth": b"abc", "sub/deeper/notes.txt": b"hello"})
    d = drive.mint()
    write(d / "model.pth", b"draft")
    before = {k: v for k, v in snapshot(drive / "product").items() if not k.endswith(b"latest")}
    drive.remount()
    after = {k: v for k, v in snapshot(drive / "product").items() if not k.endswith(b"latest")}
    assert after == before
    commit(d)
    assert drive.versions_json() == {"product_P001_all_mlstm": 2}
