"""What is stored: trees of the workloads of the benchmarks, the same at each run."""
import json
import struct
import zlib
from pathlib import Path

import numpy
import torch

TENSORS = 40


def weights(megabytes, seed):
    """A state_dict of float32."""
    n = megabytes * 1024 * 1024 // 4 // TENSORS
    g = torch.Generator().manual_seed(seed)
    return {f"layer{i}.weight": torch.randn(n, generator=g) for i in range(TENSORS)}


def changed(state, share, seed):
    """The same with some tensors renewed."""
    g = torch.Generator().manual_seed(seed)
    out = dict(state)
    for i in range(max(1, round(TENSORS * share))):
        name = f"layer{i}.weight"
        out[name] = torch.randn(state[name].shape, generator=g)
    return out


def picture(side=160):
    """A PNG of noise, some 25 KiB."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    noise = numpy.random.default_rng(1).integers(0, 256, (side, side), dtype=numpy.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in noise)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def small_files(folder, rmse):
    (folder / "metadata.json").write_text(json.dumps({"metrics": {"rmse": rmse, "r2": 0.89}, "epochs": 20}, indent=2))
    (folder / "loss_curve.png").write_bytes(picture())


def version(folder, megabytes):
    """W1: a model, the best checkpoint with the same bytes, an earlier one, and the small files. Returns the state_dict."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    state = weights(megabytes, 1)
    torch.save(state, folder / "model.pth")
    (folder / "checkpoint_best.pth").write_bytes((folder / "model.pth").read_bytes())
    torch.save(weights(megabytes, 2), folder / "checkpoint_epoch_10.pth")
    small_files(folder, 10.5)
    return state


def successor(folder, state):
    """W2: W1's model with 5 % of its tensors changed."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    torch.save(changed(state, 0.05, 3), folder / "model.pth")
    small_files(folder, 10.1)


def small_versions(folder, n, size):
    """W3: n directories of a model, metadata.json and a picture, as bench_versions writes them."""
    rng = numpy.random.default_rng(3)
    content = bytearray(rng.bytes(size))
    for i in range(n):
        d = Path(folder, f"v{i + 1}")
        d.mkdir(parents=True)
        content[:8] = i.to_bytes(8, "little")
        (d / "model.pth").write_bytes(content)
        (d / "history.bin").write_bytes(content[:size // 16])
        (d / "metadata.json").write_text(json.dumps({"metrics": {"rmse": i + 0.5}, "epochs": i}))


def tree(folder, n, directories=20):
    """W4: n files of 4 to 40 KiB."""
    rng = numpy.random.default_rng(4)
    for i in range(n):
        d = Path(folder, f"part{i % directories:02d}")
        if i < directories:
            d.mkdir(parents=True)
        (d / f"sample{i:05d}.bin").write_bytes(rng.bytes(int(rng.integers(4 * 1024, 40 * 1024))))
    small_files(Path(folder), 9.5)
