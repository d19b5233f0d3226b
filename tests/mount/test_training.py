"""Trainers: torch, numpy and h5py save to the drive, and load from it."""
import errno
import os
import sys

import pytest

from drive import MODEL, commit, kernel_at_least, read, reason, refused, settled, state, write

np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def network(torch):
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


def load(torch, path, **kw):
    try:
        return torch.load(path, weights_only=False, **kw)
    except TypeError:  # before torch 1.13
        return torch.load(path, **kw)


@pytest.mark.parametrize("how", ["state_dict", "whole model", "legacy format", "optimizer and epoch"])
def test_what_torch_saves_it_loads_again_before_and_after_the_commit(torch, draft, how):
    net = network(torch)
    x = torch.randn(5, 16)
    legacy = {"_use_new_zipfile_serialization": False} if how == "legacy format" else {}
    optimizer = torch.optim.Adam(net.parameters())
    saved = {"state_dict": net.state_dict(), "legacy format": net.state_dict(), "whole model": net,
             "optimizer and epoch": {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}}[how]
    for _ in range(3):  # overwritten as checkpoint_best.pth is
        torch.save(saved, draft / "model.pth", **legacy)

    def check():
        got = load(torch, draft / "model.pth")
        other = network(torch)
        if how == "whole model":
            other = got
        else:
            with torch.no_grad():
                for p in other.parameters():
                    p.zero_()
            other.load_state_dict(got["model"] if "model" in got else got)
        assert torch.equal(net(x), other(x))

    check()
    commit(draft)
    check()


def test_a_model_of_some_megabytes_is_loaded_by_map_location_and_from_an_open_file(torch, draft):
    data = {"w": torch.arange(2_000_000, dtype=torch.float32).reshape(1000, 2000)}
    torch.save(data, draft / "model.pth")
    commit(draft)
    assert torch.equal(load(torch, draft / "model.pth", map_location="cpu")["w"], data["w"])
    with open(draft / "model.pth", "rb") as f:
        assert torch.equal(load(torch, f)["w"], data["w"])


def test_a_torch_file_that_was_cut_is_not_committed(torch, draft):
    torch.save(network(torch).state_dict(), draft / "model.pth")
    whole = read(draft / "model.pth")
    write(draft / "model.pth", whole[:-100])
    with refused(errno.EINVAL):
        commit(draft)
    assert "model.pth" in reason(draft) and state(draft) == "draft"
    write(draft / "model.pth", whole)
    commit(draft)
    load(torch, draft / "model.pth")


def test_torch_storage_from_file_maps_a_draft(torch, draft):
    t = torch.from_file(str(draft / "weights.bin"), shared=True, size=1000, dtype=torch.float32) if hasattr(torch, "from_file") else pytest.skip("no from_file")
    t.fill_(3.0)
    assert np.fromfile(draft / "weights.bin", dtype=np.float32).sum() == 3000.0
    with refused(errno.EBUSY):
        commit(draft)
    del t
    commit(draft)
    assert np.fromfile(draft / "weights.bin", dtype=np.float32).sum() == 3000.0


TRAIN = r"""
import json, os, sys
import torch
path, seed = sys.argv[1], int(sys.argv[2])
torch.manual_seed(seed)
os.makedirs(path, exist_ok=True)
net = torch.nn.LSTM(4, 8)
x = torch.randn(10, 2, 4)
for epoch in range(3):
    os.makedirs(path, exist_ok=True)
    torch.save(net.state_dict(), f"{path}/checkpoint_epoch_{epoch}.pth")
    torch.save({"seed": seed, "out": net(x)[0].detach(), "x": x, "net": net.state_dict()}, f"{path}/checkpoint_best.pth")
torch.save(net, path + "/model.pth")
with open(path + "/metadata.json", "w") as f:
    json.dump({"metrics": {"rmse": float(seed), "r2": float("nan")}}, f)
print(os.readlink(path))
"""


@pytest.mark.seconds(120)
def test_two_trainings_of_one_model_at_once_each_land_in_their_own_version(house, drive, torch):
    write(house.folder / "train.py", TRAIN)
    path = drive.model() / "latest"
    runs = {seed: house.start(f"exec {sys.executable} {house.folder}/train.py {path} {seed}") for seed in (11, 22)}
    names = {}
    for seed, p in runs.items():
        out, err = p.communicate(timeout=100)
        assert p.returncode == 0, err
        names[seed] = drive / MODEL / out.strip()
    assert sorted(v.name for v in names.values()) == ["v1", "v2"]
    for seed, v in names.items():
        if kernel_at_least(6, 15):
            settled(v)
        best = load(torch, v / "checkpoint_best.pth")
        assert best["seed"] == seed
        net = torch.nn.LSTM(4, 8)
        net.load_state_dict(best["net"])
        assert torch.equal(net(best["x"])[0], best["out"]) and torch.equal(load(torch, v / "model.pth")(best["x"])[0], best["out"])
    if kernel_at_least(6, 15):
        assert os.readlink(drive / MODEL / "best") == names[11].name


# ---- numpy ----


def test_numpy_saves_and_loads(draft):
    a = np.arange(100_000, dtype=np.float64).reshape(100, 1000)
    for _ in range(2):
        np.save(draft / "a.npy", a)
        np.savez(draft / "b.npz", a=a, b=a[:3])
        np.savez_compressed(draft / "c.npz", a=a)
        np.savetxt(draft / "d.csv", a[:2])
        a.tofile(draft / "e.bin")
    commit(draft)
    assert (np.load(draft / "a.npy") == a).all() and (np.load(draft / "b.npz")["b"] == a[:3]).all() and (np.load(draft / "c.npz")["a"] == a).all()
    assert (np.loadtxt(draft / "d.csv") == a[:2]).all() and (np.fromfile(draft / "e.bin").reshape(a.shape) == a).all()


def test_numpy_maps_for_reading_and_writing(draft):
    np.save(draft / "a.npy", np.zeros((64, 1024), dtype=np.float32))
    w = np.load(draft / "a.npy", mmap_mode="r+")
    w[5] = 7
    r = np.load(draft / "a.npy", mmap_mode="r")
    assert r[5].sum() == 7 * 1024
    m = np.memmap(draft / "new.dat", dtype=np.int64, mode="w+", shape=(1000,))
    m[:] = np.arange(1000)
    del w, m
    commit(draft)
    assert np.load(draft / "a.npy", mmap_mode="r")[5].sum() == 7 * 1024 and r[5].sum() == 7 * 1024
    assert (np.memmap(draft / "new.dat", dtype=np.int64, mode="r") == np.arange(1000)).all()
    c = np.load(draft / "a.npy", mmap_mode="c")
    c[5] = 9
    assert np.load(draft / "a.npy")[5].sum() == 7 * 1024
    del r, c  # the traceback of the refusal may keep this frame, and what it maps
    with refused(errno.EROFS):
        np.load(draft / "a.npy", mmap_mode="r+")


def test_a_memmap_keeps_the_draft_open_although_its_file_is_closed(draft):
    m = np.memmap(draft / "m.dat", dtype=np.uint8, mode="w+", shape=(10000,))
    m[:] = 1
    with refused(errno.EBUSY):
        commit(draft)
    assert "m.dat" in reason(draft)
    m[0] = 2
    del m
    commit(draft)
    assert np.fromfile(draft / "m.dat", dtype=np.uint8).sum() == 10001


# ---- h5py ----


def test_h5py_opens_a_file_again_and_again_in_append_mode(draft):
    h5py = pytest.importorskip("h5py")
    for n in range(40):
        with h5py.File(draft / "history.h5", "a") as f:
            if "loss" not in f:
                f.create_dataset("loss", (0,), maxshape=(None,), chunks=(16,), dtype="f8")
            f["loss"].resize((n + 1,))
            f["loss"][n] = n * 0.5
            f.create_group(f"epoch_{n}").attrs["lr"] = 0.1 / (n + 1)
            f[f"epoch_{n}"]["weights"] = np.full((20, 20), n)
    with h5py.File(draft / "history.h5", "r") as f:
        assert (f["loss"][:] == np.arange(40) * 0.5).all()
    commit(draft)
    with h5py.File(draft / "history.h5", "r") as f:
        assert (f["loss"][:] == np.arange(40) * 0.5).all() and f["epoch_39/weights"][3, 3] == 39 and len(f) == 41


def test_a_second_writer_of_an_hdf5_file_is_kept_out_by_its_lock(house, draft):
    h5py = pytest.importorskip("h5py")
    with h5py.File(draft / "a.h5", "w") as f:
        f["x"] = 1
        f.flush()
        with pytest.raises(OSError):
            h5py.File(draft / "a.h5", "a", locking=True) if h5py.version.hdf5_version_tuple >= (1, 14) else _locked(house, draft / "a.h5")
    with h5py.File(draft / "a.h5", "a") as f:
        f["y"] = 2


def _locked(house, path):
    other = house.worker()
    other.do("sys.path += extra", extra=[p for p in sys.path if p])
    try:
        other.do("import h5py")
        other.do("f = h5py.File(p, 'a')", p=path)
    except (AssertionError, OSError) as e:
        raise OSError(str(e)) from e
