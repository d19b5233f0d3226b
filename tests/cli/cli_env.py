"""The command line, driven from outside: the binary is given by MINTFS_BIN."""
import json
import os
import pathlib
import shutil
import subprocess
import time

BIN = os.environ.get("MINTFS_BIN", "mintfs")


class Result:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)


def call(*args, cwd="/", env=None, user=None, **more):
    """Runs mintfs; env adds to a clean environment, user (uid) runs it as somebody else."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MINTFS_STORE", "MINTFS_RUN", "NO_COLOR")}
    if user is not None:
        more["user"], more["group"], more["extra_groups"] = user, user, []
    done = subprocess.run([BIN, *map(str, args)], cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=60,
                          errors="surrogateescape", **more)
    return Result(done)


def one_sentence(result, code, *words):
    """Refused with this code, by one line on standard error that has the words."""
    assert result.code == code, (result.code, result.out, result.err)
    assert result.out == ""
    assert result.err.count("\n") == 1 and result.err.startswith("mintfs "), result.err
    for word in words:
        assert str(word) in result.err, result.err


def wait_for(condition, seconds=30):
    """What the condition answers at last; it is asked no more once that is true."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return answer


def at_work(pid):
    """Is the process there, and not only waiting for its parent to take note of its end?"""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended between open and read
        return False


def can_mount():
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return False
    return os.geteuid() == 0 or shutil.which("fusermount3") is not None


def remove_store(path):
    """Blobs are immutable where root made them."""
    subprocess.run(["chattr", "-R", "-i", str(path)], stderr=subprocess.DEVNULL)
    shutil.rmtree(path, ignore_errors=True)


class Drive:
    def __init__(self, store, dir):
        self.store, self.dir = store, dir

    def mount(self, *options):
        done = call("mount", self.store, self.dir, *options)
        assert done.code == 0, done.err
        return self

    def umount(self):
        return call("umount", self.dir)

    def path(self, *parts):
        return pathlib.Path(self.dir, *parts)

    def model(self, name="product/P001_all/mlstm"):
        path = self.path(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def mint(self, files=None, model="product/P001_all/mlstm"):
        """A draft with files; answers its directory, by number."""
        path = self.model(model)
        before = set(os.listdir(path))
        subprocess.run(["mkdir", str(path / "next")], check=True)
        (name,) = [n for n in set(os.listdir(path)) - before if n[0] == "v" and n[1:].isdigit()]
        for file, content in (files or {}).items():
            target = path / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path / name

    def version(self, files=None, model="product/P001_all/mlstm", message=None, metrics=None):
        """A committed version."""
        files = dict(files or {"model.bin": "weights"})
        if metrics is not None:
            files["metadata.json"] = json.dumps({"metrics": metrics})
        draft = self.mint(files, model)
        done = call("commit", draft, *(["-m", message] if message is not None else []))
        assert done.code == 0, done.err
        return draft
