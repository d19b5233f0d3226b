"""A disk that remembers what was done to it, so that it can be had again as a power cut would have left it at any moment.

It is a file served by FUSE (spoken raw, no library), upon which a loop device and a file system are put. Every write and every flush
is a record, in the order they came. What was written before the last flush is on the disk; of what came after it, a cut leaves any
subset, and of a single write any of its sectors. A second file, `marks`, takes lines of text that become records too:
the places of a program (MINTFS_MARKS) and what a test was told meanwhile.

    recording_disk.py DIRECTORY BYTES LOG     serves DIRECTORY/disk and DIRECTORY/marks until it is unmounted
"""
import ctypes
import errno
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

SECTOR = 512
SUPERBLOCK_END = 2048  # of ext4, which takes for granted that it is written whole: torn, it fails its own checksum, and no mount helps
WRITE, FLUSH, MARK = b"W", b"F", b"M"
RECORD = struct.Struct("<cQI")  # kind, offset, length of the data behind it

# ---- the server ----

ROOT, DISK, MARKS = 1, 2, 3
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE_OP, STATFS, RELEASE, FSYNC, FLUSH_OP, INIT, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = (
    1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 34, 36, 38, 42)
IN_HEADER = struct.Struct("<IIQQIIIHH")
MAX_WRITE = 1 << 20
BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 5, 1 << 22, 1


class Server:
    def __init__(self, size, log):
        self.image, self.log = bytearray(size), log

    def record(self, kind, offset=0, data=b""):
        self.log.write(RECORD.pack(kind, offset, len(data)) + data)
        self.log.flush()

    def attr(self, node):
        size = len(self.image) if node == DISK else 0
        mode = 0o40755 if node == ROOT else 0o100666
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // SECTOR, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, op, node, body):
        """The answer's body, or an errno."""
        if op == INIT:
            major, minor, readahead, flags = struct.unpack_from("<IIII", body)
            return struct.pack("<IIIIHHIIHHI28x", 7, min(minor, 31), readahead, flags & (BIG_WRITES | MAX_PAGES), 12, 9, MAX_WRITE, 1, MAX_WRITE // 4096, 0, 0)
        if op == LOOKUP:
            found = {b"disk": DISK, b"marks": MARKS}.get(body.rstrip(b"\0"))
            return struct.pack("<QQQQII", found, 0, 3600, 3600, 0, 0) + self.attr(found) if found else errno.ENOENT
        if op in (GETATTR, SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self.attr(node)
        if op == OPEN:
            return struct.pack("<QII", 0, DIRECT_IO if node == MARKS else 0, 0)
        if op == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(self.image[offset:offset + size]) if node == DISK else b""
        if op == WRITE_OP:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40:40 + size]
            if node == DISK:
                self.image[offset:offset + size] = data
                self.record(WRITE, offset, data)
            else:
                self.record(MARK, 0, data)
            return struct.pack("<II", size, 0)
        if op == FSYNC:
            if node == DISK:
                self.record(FLUSH)
            return b""
        if op == STATFS:
            return struct.pack("<QQQQQIIII24x", 1, 0, 0, 2, 0, 4096, 255, 4096, 0)
        return b"" if op in (RELEASE, FLUSH_OP, ACCESS, DESTROY) else errno.ENOSYS

    def serve(self, fd):
        while True:
            try:
                request = os.read(fd, MAX_WRITE + 65536)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # ENODEV: unmounted
            _, op, unique, node, *_ = IN_HEADER.unpack_from(request)
            if op in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            body = self.answer(op, node, request[IN_HEADER.size:])
            failed, body = (body, b"") if isinstance(body, int) else (0, body)
            try:
                os.write(fd, struct.pack("<IiQ", 16 + len(body), -failed, unique) + body)
            except OSError as e:
                if e.errno not in (errno.ENOENT, errno.ENODEV):
                    raise


def main(folder, size, log):
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"recording_disk", os.fsencode(folder), b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fd) != 0:
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    with open(log, "wb") as f:
        Server(int(size), f).serve(fd)


# ---- what a test does with it ----


class Disk:
    """A recording disk with ext4 on it, mounted at folder/top; its records are in folder/log."""

    def __init__(self, folder, size):
        self.folder, self.size = Path(folder), size
        self.at, self.top, self.log = self.folder / "disk", self.folder / "top", self.folder / "log"
        self.marks = self.at / "marks"
        self.server = None

    def start(self):
        for d in (self.at, self.top):
            d.mkdir(parents=True)
        self.server = subprocess.Popen([sys.executable, "-B", __file__, str(self.at), str(self.size), str(self.log)])
        end = time.monotonic() + 30
        while not os.path.ismount(self.at):
            if self.server.poll() is not None or time.monotonic() > end:
                raise OSError(errno.ENODEV, "the recording disk does not come up")
            time.sleep(0.005)
        done("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-N", "4096", "-J", "size=4", self.at / "disk")
        done("mount", "-o", "loop,nodiscard", self.at / "disk", self.top)
        done("sync", "-f", self.top)

    def mark(self, text):
        with open(self.marks, "wb", buffering=0) as f:
            f.write(text.encode())

    def stop(self):
        """Takes it away, whatever state it is in; its records stay."""
        subprocess.run(["umount", str(self.top)], stderr=subprocess.DEVNULL)
        for _ in range(100):  # the loop device lets go of its file a moment later
            if not os.path.ismount(self.at) or subprocess.run(["umount", str(self.at)], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.05)
        else:
            subprocess.run(["umount", "-l", str(self.at)], stderr=subprocess.DEVNULL)
        if self.server:
            self.server.kill()
            self.server.wait()


def done(*argv):
    r = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        raise OSError(errno.EIO, f"{argv[0]}: {r.stdout}")


def records(log):
    """All records of a log: (kind, offset, data)."""
    with open(log, "rb") as f:
        data = f.read()
    at, found = 0, []
    while at + RECORD.size <= len(data):
        kind, offset, length = RECORD.unpack_from(data, at)
        at += RECORD.size
        found.append((kind, offset, data[at:at + length]))
        at += length
    return found


class Replay:
    """Images of the disk as a cut after so many records would leave it; the numbers asked for may only rise."""

    def __init__(self, log, size):
        self.records, self.synced, self.at, self.pending = records(log), bytearray(size), 0, []

    def advance(self, n):
        for kind, offset, data in self.records[self.at:n]:
            if kind == WRITE:
                self.pending.append((offset, data))
            elif kind == FLUSH:
                for where, what in self.pending:
                    self.synced[where:where + len(what)] = what
                self.pending = []
        self.at = n

    def image(self, n, pick):
        """After n records. pick, a random.Random, decides what becomes of each write that was not synced; None: all of them are lost."""
        self.advance(n)
        image, kept = bytearray(self.synced), 0
        odds = pick.choice([0.1, 0.5, 0.9]) if pick else 0
        for offset, data in self.pending if pick else ():
            fate = pick.random()
            if fate > odds:
                continue
            kept += 1
            if pick.random() < 0.25 and len(data) > SECTOR and offset >= SUPERBLOCK_END:  # torn: any of its sectors
                for at in range(0, len(data), SECTOR):
                    if pick.random() < 0.5:
                        image[offset + at:offset + at + SECTOR] = data[at:at + SECTOR]
            else:
                image[offset:offset + len(data)] = data
        return image, f"{kept} of {len(self.pending)} unsynced writes kept"


def put_image(path, image):
    """Writes it sparsely."""
    block, zero = 1 << 16, bytes(1 << 16)
    with open(path, "wb") as f:
        f.truncate(len(image))
        for at in range(0, len(image), block):
            piece = image[at:at + block]
            if piece != zero:
                f.seek(at)
                f.write(piece)


if __name__ == "__main__":
    main(*sys.argv[1:])
