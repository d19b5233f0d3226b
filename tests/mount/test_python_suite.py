"""Python's own tests of files, with their working and temporary directories in a draft.

A quick selection by default; MINTFS_LONG=1 runs all that touch files. What fails in a draft is run on the file system below as well:
only what fails here and not there counts, but for EXPLAINED."""
import glob
import os
import re
import subprocess
import sys

import pytest

from drive import clean_env

QUICK = "test_posix test_fileio test_mmap test_shutil test_fcntl test_stat test_dbm test_filecmp"
LONG = QUICK + """ test_os test_file test_tempfile test_dbm_dumb test_unicode_file test_io test_largefile test_zipfile test_zipfile64 test_sqlite3 test_tarfile test_pathlib test_glob test_genericpath test_posixpath test_bz2 test_gzip
    test_lzma test_dbm_gnu test_dbm_ndbm test_shelve test_mailbox test_fileinput test_import test_py_compile test_compileall test_linecache test_zipapp test_zipimport
    test_cmd_line_script test_ioctl test_netrc test_file_eintr test_bufio test_unicode_file_functions test_pkg test_runpy test_fileutils test_logging"""
EXPLAINED = {  # case: why a draft differs
    "test_rmtree_on_named_pipe": "makes a pipe, and a version holds no pipes; from Python 3.13 on the test does not reckon with a refusal",
    "test_udp_reconnection": "binds a socket, and a version holds no sockets; the test's end does not reckon with a refusal",
}
PYTHON = "/usr/bin/python3"


def present(names):
    """Those that this distribution has: some leave out what they cannot distribute."""
    found = subprocess.run([PYTHON, "-c", "import sys, importlib.util\nfor n in sys.argv[1:]:\n if importlib.util.find_spec('test.' + n): print(n)"] + names.split(),
                           stdout=subprocess.PIPE, text=True).stdout.split()
    if not found:
        pytest.skip("Python's own tests are not installed (libpython3.N-testsuite)")
    return found


def failures(names, top):
    """Names of the cases that fail with everything below `top`, and what was said."""
    for sub in ("work", "tmp"):
        (top / sub).mkdir(exist_ok=True)
    r = subprocess.run([PYTHON, "-m", "test", "-W", "-u", "largefile", "--tempdir", str(top / "work")] + names, cwd=top / "work",
                       env=clean_env({"TMPDIR": str(top / "tmp"), "PYTHONDONTWRITEBYTECODE": ""}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cases = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", r.stdout, re.M))
    files = set(re.findall(r"^    (test_\w+)$", r.stdout.partition(" failed:")[2], re.M)) if r.returncode else set()
    assert r.returncode == 0 or files or cases, r.stdout[-3000:]
    return cases, files, r.stdout


@pytest.mark.seconds(1500 if os.environ.get("MINTFS_LONG") else 120)
@pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["passthrough", "by_the_daemon"])
def test_pythons_own_tests_of_files_pass_in_a_draft(house, store, options):
    names = present(LONG if os.environ.get("MINTFS_LONG") else QUICK)
    draft = house.mount(store, options=options).mint()
    (draft / "a_file").write_bytes(b"so that the draft is more than empty directories")
    cases, files, said = failures(names, draft)
    plain = house.folder / "plain"
    plain.mkdir()
    known = failures(sorted(files), plain)[:2] if files else (set(), set())
    ours = cases - known[0] - set(EXPLAINED)
    assert not ours, f"{sorted(ours)}\n{said[-6000:]}"
    silent = files - known[1] if not cases else set()  # a whole file failed without a case that says so
    assert not silent, f"{sorted(silent)}\n{said[-6000:]}"
    print(f"{len(names)} files of Python's tests; on either file system fail: {sorted(known[0] | known[1])}; explained: {sorted(cases & set(EXPLAINED))}", file=sys.stderr)
    left = [p for p in glob.glob(str(draft / "*/*")) if not os.path.basename(p).startswith("tmp")]
    assert not left, f"left behind: {left}"
