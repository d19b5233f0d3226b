"""A real drive for tests: a store, mounts of it, processes that use it, and what tests ask again and again.

The daemon of a mount becomes a child of the test run (the run is a subreaper), so that its exit status is known."""
import base64
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import pickle
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
OVERLAYFS_MAGIC = 0x794C7630
SANITIZER_WORDS = ("ERROR: AddressSanitizer", "WARNING: ThreadSanitizer", "ERROR: LeakSanitizer", "ThreadSanitizer:", "runtime error:", "LeakSanitizer:")
WRITE_BITS = 0o222
ON_RUN_IDS = ("MINTFS_RUN", "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "RANK", "SLURM_JOB_ID", "SLURM_STEP_ID", "MINTFS_STORE")
MODEL = "product/P001_all/mlstm"
END_LIMIT = 20.0  # seconds for a daemon to end
libc = ctypes.CDLL(None, use_errno=True)


def binary():
    return os.environ.get("MINTFS_BIN") or shutil.which("mintfs")


def become_subreaper():
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kernel_at_least(major, minor):
    parts = os.uname().release.split("-")[0].split(".")
    return (int(parts[0]), int(parts[1])) >= (major, minor)


# ---- conditions ----


def wait_until(condition, limit=30.0, what="the condition"):
    """Waits for a true value and returns it. The limit is generous unless it is a promise."""
    end = time.monotonic() + limit
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {limit} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class Lateness(threading.Thread):
    """How late the machine itself was meanwhile, at most: the same small work again and again, beside the drive, which takes a millisecond or two where nothing else runs. A limit
    that is a promise of the drive is given so much more."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.path, self.go_on, self.seconds = folder / f"late-{id(self)}", True, 0.0

    def run(self):
        while self.go_on:
            began = time.monotonic()
            write(self.path, b"x")
            assert read(self.path) == b"x"
            time.sleep(0.001)
            self.seconds = max(self.seconds, time.monotonic() - began)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.go_on = False
        self.join()


@contextlib.contextmanager
def refused(*numbers):
    """The block ends with an OSError of one of these numbers."""
    names = "/".join(errno.errorcode[n] for n in numbers)
    try:
        yield
    except OSError as e:
        assert e.errno in numbers, f"refused with {errno.errorcode.get(e.errno, e.errno)} instead of {names}: {e}"
        return
    raise AssertionError(f"not refused: {names} was expected")


# ---- running programs ----


def mount_lines():
    """What is mounted, each line as its fields. Any name may stand there, in whatever encoding."""
    with open("/proc/mounts", errors="surrogateescape") as f:
        return [line.split() for line in f]


def clean_env(extra=None):
    env = {k: v for k, v in os.environ.items() if k not in ON_RUN_IDS}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    env.setdefault("LC_ALL", "C.UTF-8")
    env.update(extra or {})
    return env


def run(*argv, check=True, cwd=None, env=None, text=True, **kw):
    r = subprocess.run([str(a) for a in argv], cwd=cwd, env=clean_env(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, **kw)
    if check and r.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {r.returncode}\n{r.stdout}\n{r.stderr}")
    return r


def sh(script, cwd=None, check=True, env=None, **kw):
    return run("sh", "-c", script, check=check, cwd=cwd, env=env, **kw)


def mintfs(*argv, check=True, **kw):
    return run(binary(), *argv, check=check, **kw)


def apart(function, *args, uid=None, gid=None, groups=(), umask=None):
    """Calls the function in a process of its own (as an ordinary user, if a uid is given) and returns its result or raises what it raised."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            os.close(r)
            if uid is not None:
                os.setgroups(groups)
                os.setgid(uid if gid is None else gid)
                os.setuid(uid)
            if umask is not None:
                os.umask(umask)
            answer = (True, function(*args))
        except BaseException as e:  # noqa: B902 - it is raised again by the parent
            answer = (False, e)
            if not isinstance(e, OSError):
                traceback.print_exc()
        try:
            with os.fdopen(w, "wb") as f:
                pickle.dump(answer, f)
        finally:
            os._exit(status)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        data = f.read()
    os.waitpid(pid, 0)
    ok, value = pickle.loads(data) if data else (False, AssertionError("the process died"))
    if not ok:
        raise value
    return value


WORKER = r"""
import sys, os, pickle, base64
names = {}
exec("import os, sys, mmap, fcntl, time, struct", names)
while True:
    line = sys.stdin.buffer.readline()
    if not line:
        break
    kind, code, given = pickle.loads(base64.b64decode(line))
    try:
        names.update(given)
        value = eval(code, names) if kind == "eval" else exec(code, names)
        answer = (True, value)
    except OSError as e:
        answer = (False, (e.errno, str(e)))
    except Exception as e:
        answer = (False, (None, repr(e)))
    sys.stdout.buffer.write(base64.b64encode(pickle.dumps(answer)) + b"\n")
    sys.stdout.buffer.flush()
"""


class Worker:
    """A Python program that lives on between the steps it is told: a trainer, a reader, an outsider."""

    def __init__(self, env=None, uid=None, cwd=None, parent=None):
        def drop():
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)

        self.process = subprocess.Popen([sys.executable, "-I", "-S", "-B", "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_env(env),
                                        cwd=cwd, preexec_fn=drop if uid is not None else None)
        self.pid = self.process.pid

    def begin(self, code, **given):
        """Sends a step without waiting for its end."""
        kind = "exec" if "\n" in code or "=" in code.split("(")[0] or code.startswith(("with ", "import ", "for ", "del ")) else "eval"
        given = {k: os.fspath(v) if isinstance(v, Path) else v for k, v in given.items()}
        self.process.stdin.write(base64.b64encode(pickle.dumps((kind, code, given))) + b"\n")
        self.process.stdin.flush()

    def end(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the worker ended with {self.process.wait()}")
        ok, value = pickle.loads(base64.b64decode(line))
        if not ok:
            number, text = value
            raise OSError(number, text) if number else AssertionError(text)
        return value

    def do(self, code, **given):
        self.begin(code, **given)
        return self.end()

    def write(self, path, data):
        self.do("with open(path, 'wb') as f:\n f.write(data)", path=path, data=data)

    def exit(self, status=0):
        self.begin("os._exit(status)", status=status)
        self.process.wait(20)
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


# ---- what the drive says ----


def attrs(path, follow=True):
    """user.mintfs.* of a thing, without the prefix."""
    prefix = "user.mintfs."
    return {n[len(prefix):]: os.getxattr(path, n, follow_symlinks=follow).decode() for n in os.listxattr(path, follow_symlinks=follow) if n.startswith(prefix)}


def attr(path, name, default=None):
    try:
        return os.getxattr(path, "user.mintfs." + name).decode()
    except OSError as e:
        if e.errno in (errno.ENODATA, errno.ENOENT, errno.ESTALE):
            return default
        raise


def state(version):
    return attr(version, "state")


def reason(path):
    return attr(path, "error", "")


def commit(version):
    """chmod a-w. Answers when the version is committed, durably."""
    mode = stat.S_IMODE(os.stat(version).st_mode)
    os.chmod(version, mode & ~WRITE_BITS)


def settled(version, wanted="committed", limit=30.0):
    """Waits until the version is in that state."""
    return wait_until(lambda: state(version) == wanted, limit, f"{version} is {state(version)}: {reason(version)}")


def why(version, words, limit=30.0):
    """Waits until the draft says why it stays."""
    wait_until(lambda: words in reason(version), limit, f"'{words}' at {version}")
    return reason(version)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write(path, data=b""):
    with open(path, "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return Path(path)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def snapshot(top, times=True):
    """All that can be seen of a tree, by path relative to it."""
    seen = {}
    top = os.fsencode(top)
    for here, dirs, files in os.walk(top):
        for name in [b""] + files + [d for d in dirs if os.path.islink(os.path.join(here, d))]:
            path = os.path.join(here, name) if name else here
            st = os.lstat(path)
            what = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid]
            if times:
                what.append(st.st_mtime_ns)
            if stat.S_ISREG(st.st_mode):
                what += [st.st_size, st.st_nlink, sha256(read(path))]
            elif stat.S_ISLNK(st.st_mode):
                what.append(os.readlink(path))
            seen[os.path.relpath(path, top)] = tuple(what)
    return seen


# ---- drives ----


def on_overlay(path):
    out = subprocess.run(["stat", "-f", "-c", "%t", str(path)], stdout=subprocess.PIPE, text=True).stdout.strip()
    return out and int(out, 16) == OVERLAYFS_MAGIC


def new_folder():
    for base in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):
        if os.path.isdir(base) and not on_overlay(base):
            folder = Path(tempfile.mkdtemp(prefix="mintfs-test-", dir=base))
            folder.chmod(0o755)  # for tests of ordinary users
            return folder.resolve()
    return None


class Drive:
    """One mount of a store."""

    def __init__(self, house, store, at, options=(), uid=None, descriptors=None):
        self.house, self.store, self.at, self.options, self.uid = house, Path(store), Path(at), tuple(options), uid
        self.descriptors = descriptors  # that the daemon may have; None: as usual
        self.log = house.folder / f"{self.at.name}.log"
        self.pid = None

    def mount(self):
        self.at.mkdir(exist_ok=True)
        if self.uid is not None:
            os.chown(self.at, self.uid, self.uid)
            self.log.touch()
            os.chown(self.log, self.uid, self.uid)
        options = ",".join(("log=" + str(self.log),) + self.options)
        limit = ["prlimit", f"--nofile={self.descriptors}:{self.descriptors}"] if self.descriptors else []
        self.house.run(*limit, binary(), "mount", self.store, self.at, "-o", options, env=self.house.sanitizer_env(), uid=self.uid)
        self.pid = self.find_daemon()
        assert self.pid, "mintfs mount returned, but no daemon runs"
        return self

    def processes(self):
        """pid → parent of all that serve this mount: the keeper and its children."""
        wanted = [b"mount", os.fsencode(self.store), os.fsencode(self.at)]
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                argv = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
                if argv[1:4] == wanted and os.stat(f"/proc/{pid}").st_uid == (self.uid or 0):
                    found[int(pid)] = int(Path("/proc", pid, "stat").read_text().rsplit(")", 1)[1].split()[1])
        return found

    def find_daemon(self):
        """The keeper: the one whose parent is none of them."""
        found = self.processes()
        return next((pid for pid, parent in found.items() if parent not in found), None)

    def worker(self):
        """The process that serves now; None between two."""
        for pid, parent in self.processes().items():
            with contextlib.suppress(OSError):
                if parent == self.pid and Path(f"/proc/{pid}/comm").read_text() == "mintfs-worker\n" and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
                    return pid
        return None

    def kill_worker(self, sig=signal.SIGKILL):
        """Another takes over by itself. The pid of the one that was killed."""
        pid = wait_until(self.worker, what="a worker")
        os.kill(pid, sig)
        return pid

    def wait_worker(self, after):
        """The worker that came after one, when it serves."""
        wait_until(lambda: self.worker() not in (None, after), what="another worker")
        os.statvfs(self.at)
        return self.worker()

    def __truediv__(self, path):
        return self.at / path

    def model(self, path=MODEL):
        where = self.at / path
        os.makedirs(where, exist_ok=True)
        return where

    def mint(self, model=MODEL):
        """A new draft of the model, made as people do; its path by number."""
        where = self.model(model) if isinstance(model, str) else model
        run("mkdir", where / "latest")
        return where / os.readlink(where / "latest")

    def committed(self, model=MODEL, files=None):
        """A new committed version."""
        v = self.mint(model)
        for name, data in (files or {"model.pth": b"weights of %d" % time.monotonic_ns()}).items():
            (v / name).parent.mkdir(parents=True, exist_ok=True)
            write(v / name, data)
        commit(v)
        self.wait_tidied(v)
        return v

    def wait_tidied(self, version):
        """Until what a commit leaves behind its answer is done: the staging tree is gone, the blobs are sealed."""
        with contextlib.closing(sqlite3.connect(f"file:{self.store}/catalog.db?mode=ro", uri=True)) as db:
            ids = db.execute("SELECT v.id FROM versions v JOIN models m ON m.id = v.model_id WHERE m.path = ? AND v.number = ?",
                             (str(version.parent.relative_to(self.at)), int(version.name[1:]))).fetchall()
        for (number,) in ids:
            wait_until(lambda n=number: not os.path.lexists(self.store / "drafts" / str(n)), what="the staging tree is gone")

    def unmount(self):
        """The daemon must end in time, and well."""
        r = subprocess.run([binary(), "umount", str(self.at)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert r.returncode == 0, f"umount: {r.stderr}"
        self.wait_end()

    def wait_end(self):
        pid, self.pid = self.pid, None
        end = time.monotonic() + END_LIMIT
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"the daemon did not end within {END_LIMIT} s of the unmount")
            time.sleep(0.002)
        assert status == 0, f"the daemon ended with status {status:#x}"

    def remount(self):
        self.unmount()
        return self.mount()

    def kill(self):
        """kill -9 of all that serve it at once: the mount stays behind, dead."""
        pid, self.pid = self.pid, None
        rest = [p for p, parent in self.processes().items() if parent == pid]
        for p in rest:  # none may clear up after its keeper
            os.kill(p, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        for p in rest:
            os.kill(p, signal.SIGKILL)
        os.waitpid(pid, 0)
        for p in rest:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(p, 0)

    def close(self):
        if self.pid is None:
            subprocess.run(["umount", "-l", str(self.at)], stderr=subprocess.DEVNULL)
            return
        try:
            self.unmount()
        except AssertionError:
            subprocess.run(["umount", "-l", str(self.at)], stderr=subprocess.DEVNULL)
            if self.pid is not None:
                with contextlib.suppress(AssertionError):
                    self.wait_end()
            raise

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # what stands in the store

    def rows(self, where="", *args):
        """model_versions, as a foreign reader sees it."""
        with contextlib.closing(sqlite3.connect(f"file:{self.store}/catalog.db?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return [dict(r) for r in db.execute("SELECT * FROM model_versions " + where, args)]

    def blobs(self):
        return sorted(p.parent.name + p.name for p in (self.store / "blobs").glob("??/*"))

    def versions_json(self):
        with open(self.at / "versions.json") as f:
            return json.load(f)


class House:
    """What belongs to one test: its folder, its drives, its processes."""

    def __init__(self, folder):
        self.folder, self.drives, self.workers, self.undo = folder, [], [], []

    def sanitizer_env(self):
        env = {}
        for name in ("ASAN", "TSAN", "UBSAN", "LSAN"):
            old = os.environ.get(name + "_OPTIONS", "")
            env[name + "_OPTIONS"] = f"{old}:log_path={self.folder}/report.{name.lower()}:print_stacktrace=1" if name == "UBSAN" else \
                f"{old}:log_path={self.folder}/report.{name.lower()}"
        return env

    def run(self, *argv, uid=None, env=None):
        def drop():
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)

        return run(*argv, env=env, preexec_fn=drop if uid is not None else None)

    def init(self, name="store", uid=None):
        path = self.folder / name
        self.run(binary(), "init", path, env=self.sanitizer_env(), uid=uid)
        return path

    def mount(self, store=None, at="mnt", options=(), uid=None, descriptors=None):
        store = store or (self.folder / "store")
        drive = Drive(self, store, self.folder / at, options, uid, descriptors)
        self.drives.append(drive)
        return drive.mount()

    def worker(self, **kw):
        w = Worker(**kw)
        self.workers.append(w)
        return w

    def start(self, script, cwd=None, env=None, **kw):
        """A shell script in the background."""
        p = subprocess.Popen(["sh", "-c", script], cwd=cwd, env=clean_env(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, start_new_session=True, **kw)
        self.undo.append(lambda: end_session(p))
        return p

    def kill_daemons(self):
        """For a test that hangs: what waits for a dead daemon gets its error."""
        for d in self.drives:
            if d.pid:
                for pid in [d.pid, *d.processes()]:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                subprocess.run(["umount", "-f", "-l", str(d.at)], stderr=subprocess.DEVNULL)

    def close(self):
        """Ends everything; returns what was wrong."""
        wrong = []
        for undo in [w.close for w in reversed(self.workers)] + list(reversed(self.undo)):
            with contextlib.suppress(Exception):
                undo()
        for d in reversed(self.drives):
            try:
                d.close()
            except (AssertionError, OSError) as e:
                wrong.append(f"{d.at.name}: {e}")
            wrong += [f"{d.log.name}: {line}" for line in d.log_text().splitlines() if any(w in line for w in SANITIZER_WORDS)]
        for report in self.folder.glob("report.*"):
            wrong.append(f"{report.name}:\n{report.read_text(errors='replace')[:6000]}")
        return wrong

    def remove(self):
        for store in self.folder.iterdir():
            if store.is_dir() and not store.is_symlink() and (store / "blobs").is_dir():
                subprocess.run(["chattr", "-R", "-i", str(store)], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.folder)])


def end_session(p):
    with contextlib.suppress(OSError):
        os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    for f in (p.stdin, p.stdout, p.stderr):
        if f:
            with contextlib.suppress(OSError):
                f.close()


def try_lock(path):
    """May this process lock the whole file now? (fcntl)"""
    with open(path, "r+b") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
