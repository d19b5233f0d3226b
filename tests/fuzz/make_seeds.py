#!/usr/bin/python3
"""Writes the seed corpora in tests/fuzz/corpus: small, whole examples of what each parser reads, made by the programs that trainers use.

Run it by hand where a format or the first byte of a target changes; the files are in the repository, so that fuzzing needs none of these packages."""
import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent / "corpus"
NAMES = {".pth": 0, ".bin": 1, ".safetensors": 2, ".npy": 3, ".png": 4, ".h5": 5}  # as in fuzz_format.c
ENVIRON, STAT, SYSCALL, STATUS = range(4)  # as in fuzz_caller.c


def put(target, name, data, choice=None):
    folder = HERE / target
    folder.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    (folder / name).write_bytes((b"" if choice is None else bytes([choice])) + data)


def zipped(names, comment=b""):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        for n in names:
            z.writestr(zipfile.ZipInfo(n), b"x" * 9)
        z.comment = comment
    return f.getvalue()


def zip64():
    """One stored member, with the records of large archives: zipfile writes them for large ones only."""
    member = b"PK\x03\x04" + struct.pack("<5H3L2H", 20, 0, 0, 0, 33, zlib.crc32(b"abc"), 3, 3, 1, 0) + b"a" + b"abc"
    central = b"PK\x01\x02" + struct.pack("<6H3L5H2L", 45, 45, 0, 0, 0, 33, zlib.crc32(b"abc"), 3, 3, 1, 0, 0, 0, 0, 0, 0) + b"a"
    at = len(member)
    end = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, 1, 1, len(central), at)
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, at + len(central), 1)
    return member + central + end + locator + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def safetensors():
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
                         "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(24)


def npy(array, version=None):
    f = io.BytesIO()
    np.lib.format.write_array(f, array, version=version)
    return f.getvalue()


def png():
    def chunk(kind, data):
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2L5B", 1, 1, 8, 0, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def hdf5(libver, **kw):
    f = io.BytesIO()
    with h5py.File(f, "w", libver=libver, **kw) as h:
        h["w"] = np.arange(3, dtype="f4")
    return f.getvalue()


def formats():
    put("fuzz_format", "zip", zipped(["model/data.pkl", "model/version"]), NAMES[".pth"])
    put("fuzz_format", "zip-comment", zipped(["a"], b"a comment with PK\x05\x06 in it"), NAMES[".bin"])
    put("fuzz_format", "zip-empty", zipped([]), NAMES[".pth"])
    put("fuzz_format", "zip64", zip64(), NAMES[".pth"])
    put("fuzz_format", "safetensors", safetensors(), NAMES[".safetensors"])
    put("fuzz_format", "npy", npy(np.zeros((2, 3))), NAMES[".npy"])
    put("fuzz_format", "npy-fortran", npy(np.asfortranarray(np.zeros((2, 3), "i2")), (2, 0)), NAMES[".npy"])
    put("fuzz_format", "npy-record", npy(np.zeros(2, dtype=[("a", "<f4"), ("b", [("c", "u1", (3,)), ("d", "S5")])])), NAMES[".npy"])
    put("fuzz_format", "npy-unicode", npy(np.zeros(1, dtype=[("é", "U3")])), NAMES[".npy"])
    put("fuzz_format", "npy-object", npy(np.array([None], dtype=object)), NAMES[".npy"])
    put("fuzz_format", "png", png(), NAMES[".png"])
    put("fuzz_format", "h5-old", hdf5("earliest")[:1200], NAMES[".h5"])  # the superblock is what is read; so this one is torn
    put("fuzz_format", "h5-new", hdf5("latest"), NAMES[".h5"])
    put("fuzz_format", "h5-user-block", hdf5("latest", userblock_size=512), NAMES[".h5"])


def documents():
    put("fuzz_metadata", "usual", '{"metrics": {"rmse": 10.5, "r2": 0.89, "loss": NaN}, "best": {"metric": "rmse", "mode": "min"}, "inputs": ["dataset/mol/v3"], "description": "x"}')
    put("fuzz_metadata", "odd", '\ufeff{"metrics":{"a":-Infinity,"a":1e-400,"b":{"c":[1,2.50,true,null]},"\\u0061":12345678901234567890},"d\\ud83d\\ude00":"\\ud800","e":""}\n')
    put("fuzz_metadata", "deep", '{"optimizer":{"lr":0.001,"betas":[0.9,0.999]},"a":' + "[" * 40 + "]" * 40 + "}")
    put("fuzz_metadata", "named-best", '{"best":{"metric":"epoch-time"},"metrics":{"val_loss":1,"epoch-time":2}}')
    put("fuzz_config", "usual", '{\n  "format": 1\n}\n')
    put("fuzz_config", "more", '{"x": [1, {"format": 7}], "format": 2.0, "y": "\\u00e9"}')


def paths():
    for i, text in enumerate(("product/P001_all/mlstm", "product/P_1_S1/mlstm/v3/model.pth", "store/S001_P002/transformer/latest/a/b", "global/all/sum/kan",
                              "global/stores/S1/sum/kan/v1", "global/custom/S1/P1/sum/kan/best/x", "saved_models/product/P001_all/mlstm/v2/", "dataset/mol/v3",
                              "process/property-screening/v2", "product/阿司匹林_all/mlstm/v999999999", "v01", "v1000000000", "production", "latest")):
        put("fuzz_layout", f"path-{i:02}", text)


def callers():
    put("fuzz_caller", "environ", b"PATH=/bin\0MINTFS_RUN=\0TORCHELASTIC_RUN_ID=none\0RANK=0\0MASTER_ADDR=10.0.0.1\0MASTER_PORT=29500\0", ENVIRON)
    put("fuzz_caller", "environ-slurm", b"SLURM_JOB_ID=77\0SLURM_STEP_ID=0\0" + b"A=" + b"x" * 300 + b"\0MINTFS_RUN=" + "é".encode() * 130 + b"\0", ENVIRON)
    numbers = "1 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 987654 8192000 512 18446744073709551615 94000 95000 140737000 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 96000 97000 98000 140737100 140737200 140737200 140737300 256"
    put("fuzz_caller", "stat", f"4242 (a) S 1 (b) S {numbers}\n", STAT)
    put("fuzz_caller", "stat-short", "1 (x) Z 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0", STAT)
    put("fuzz_caller", "syscall-mkdir", "83 0x7ffd0b5b1c30 0x1ff 0x0 0x0 0x0 0x0 0x7ffd0b5b0a98 0x7f2b3c4d5e6f\n", SYSCALL)
    put("fuzz_caller", "syscall-mkdirat", "258 0xffffff9c 0x7ffd0b5b1c30 0x1ff 0x0 0x0 0x0 0x7ffd0b5b0a98 0x7f2b3c4d5e6f\n", SYSCALL)
    put("fuzz_caller", "syscall-none", "-1 0x7ffd0b5b0a98 0x7f2b3c4d5e6f\n", SYSCALL)
    put("fuzz_caller", "syscall-running", "running\n", SYSCALL)
    put("fuzz_caller", "status", "Name:\ttrain\\nTgid:\t1\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\nNgid:\t0\nPid:\t4243\nPPid:\t1\nTracerPid:\t0\n"
        "Uid:\t4001\t4001\t4001\t4001\nGid:\t4001\t4001\t4001\t4001\nFDSize:\t64\nGroups:\t4 24 4010 4294967294 \nNStgid:\t4242\n", STATUS)
    put("fuzz_caller", "status-cut", "Name:\tx\nTgid:\t1\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t40 401", STATUS)


def tar(format):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode="w", format=format) as t:
        for name, kind, link, data in (("README", tarfile.REGTYPE, "", b"x"), ("ü" * 120, tarfile.REGTYPE, "", b"y" * 600), ("d", tarfile.DIRTYPE, "", b""),
                                       ("d/link", tarfile.SYMTYPE, "../README", b""), ("d/hard", tarfile.LNKTYPE, "ü" * 120, b"")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(data)
            t.addfile(info, io.BytesIO(data))
    return f.getvalue()


def bundles():
    for name, format in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("ustar", tarfile.USTAR_FORMAT)):
        if format != tarfile.USTAR_FORMAT:
            put("fuzz_bundle", f"tar-{name}", tar(format), 0)
            put("fuzz_bundle", f"tar-{name}-slow", tar(format), 20)
    entries = [{"path": "a", "type": "file", "size": 3, "sha256": "ab" * 32, "mode": "0444", "uid": 0, "gid": 0, "mtime_ns": 1795672575257518619},
               {"path_hex": "62ff64", "type": "file", "size": 3, "sha256": "ab" * 32, "same_as": 0}, {"path": "d", "type": "directory"},
               {"path": "d/l", "type": "symlink", "target": "../a"}]
    run = {"id": "r", "process": "1:2", "user": "ann", "host": "h", "command": ["a", "b"], "git_dirty": -1, "started_ns": 5, "ended_ns": 0, "exit_status": -1}
    other = {"model": "dataset/mol", "number": 3, "digest": "cd" * 32}
    lineage = {"inputs": [{**other, "how": "observed"}, {"model": "dataset/mol", "number": 4, "how": "both"}], "unknown": [{"text": "x", "reason": "none"}],
               "evaluations": [{**other, "at_ns": 9, "author": "ann", "metrics": {"r2": None, "mae": 1e3}}]}
    version = {"number": 1, "minted_ns": 1, "committed_ns": 2, "mtime_ns": 3, "mode": "0555", "uid": 0, "gid": 0, "author": "ann", "message": "m \u00e9",
               "metrics": {"rmse": 1.5}, "run": run, "entries": entries}
    model = {"model": "product/P001_all/mlstm", "mode": "0755", "uid": 0, "gid": 0, "last_number": 2, "best": {"metric": "rmse", "mode": "min", "named": False},
             "aliases": [{"alias": "production", "number": 1, "set_ns": 7}], "versions": [version, {"number": 2, "entries": []}]}
    put("fuzz_bundle", "manifest", json.dumps({"format": "mintfs-bundle", "format_version": 1, "models": [model]}), 1)
    version.update(lineage=lineage, entries=version.pop("entries"))
    put("fuzz_bundle", "manifest-lineage", json.dumps({"format": "mintfs-bundle", "format_version": 1, "models": [model]}), 1)
    put("fuzz_bundle", "manifest-empty", '{"format":"mintfs-bundle","format_version":1,"models":[]}', 1)


if __name__ == "__main__":
    formats()
    documents()
    paths()
    callers()
    bundles()
