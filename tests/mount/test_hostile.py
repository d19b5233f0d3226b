"""Callers that want the daemon to wait for them, for ever: nobody else must notice."""
import ctypes
import mmap
import os
import signal
import threading
import time

from drive import MODEL, libc, read, wait_until, write

MADV_DONTNEED = 4
libc.mkdir.argtypes = [ctypes.c_void_p, ctypes.c_uint]
MANY = 24  # more than the daemon has threads


def blocked_in_mkdir(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/syscall") as f:
        return f.read().split()[0] in ("83", "258", "34")  # mkdir, mkdirat of x86-64, mkdirat of arm64


def test_a_path_in_memory_that_nobody_fills_stops_no_one_else(house, drive):
    """The name that a mkdir(2) makes is read from the caller's memory. He may have put it into a mapping of a file system of his own, which never answers: one
    that lets the kernel copy the path first (`page`), and one on the way to the drive that gives him time to throw the page away (`way`)."""
    model = drive.model()
    done = drive.committed(files={"model.pth": b"w"})
    page, way = (house.mount(house.init(name), "mnt-" + name, options=("nopassthrough",)) for name in ("page", "way"))
    paths = [f"{way.at}/product/../../{drive.at.name}/{MODEL}/latest".encode() for _ in range(MANY)]
    file = page.committed(files={"model.pth": b"".join(p.ljust(mmap.PAGESIZE, b"\0") for p in paths)}) / "model.pth"
    way.remount()
    fd = os.open(file, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    m = mmap.mmap(fd, MANY * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, ctypes.c_size_t(len(m)), mmap.PROT_READ, mmap.MAP_SHARED, fd, ctypes.c_long(0))
    assert bytes(m)[:len(paths[0])] == paths[0] and all(ctypes.string_at(address + i * mmap.PAGESIZE) == p for i, p in enumerate(paths))
    m.close()
    tids = []

    def make(i):
        tids.append(threading.get_native_id())
        libc.mkdir(address + i * mmap.PAGESIZE, 0o755)

    threads = [threading.Thread(target=make, args=(i,), daemon=True) for i in range(MANY)]
    way_serves, page_serves = way.worker(), page.worker()  # their keepers would replace them, but not so soon
    os.kill(way_serves, signal.SIGSTOP)
    try:
        for t in threads:
            t.start()
        wait_until(lambda: len(tids) == MANY and all(blocked_in_mkdir(os.getpid(), t) for t in tids))
        time.sleep(0.1)  # all have copied their paths, and wait on their way
        os.kill(page_serves, signal.SIGSTOP)
        assert libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(MANY * mmap.PAGESIZE), MADV_DONTNEED) == 0
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.kill(way_serves, signal.SIGCONT)
        answers = []
        reader = threading.Thread(target=lambda: (time.sleep(0.5), answers.append(read(done / "model.pth")), answers.append(len(os.listdir(model)))), daemon=True)
        reader.start()
        reader.join(10)
        assert answers and answers[0] == b"w", "the drive hangs"
        write(drive.mint(model) / "model.pth", b"next")
    finally:
        os.kill(page_serves, signal.SIGCONT)
        os.kill(way_serves, signal.SIGCONT)
        for t in threads:
            t.join(10)
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(MANY * mmap.PAGESIZE))
    os.close(fd)
