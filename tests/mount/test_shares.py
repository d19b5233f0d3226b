"""What all users of a drive share: none of them can take so much of it that others are refused, or wait."""
import os
import time

from drive import apart, commit, state, wait_until, write

BEN, CARL = 4002, 4003


def model_of(drive, who):
    model = drive.model(f"product/{who}_all/mlstm")
    os.chown(model, who, who)
    return model


def minted(model, who):
    """A draft that stays one when its maker ends: it has no file model.*"""
    def make():
        before = set(os.listdir(model))
        os.mkdir(model / "next")
        name = (set(os.listdir(model)) - before - {"latest"}).pop()
        write(model / name / "weights.pth", b"w")
        return name
    return model / apart(make, uid=who)


REFUSED_COMMITS = """
import threading
files = []
def commit_again_and_again(path):
    while True:
        try:
            os.chmod(path, 0o555)
        except OSError:
            pass
for n in range(80):
    os.mkdir(model + "/next")
for name in os.listdir(model):
    if name != "latest":
        files.append(open(model + "/" + name + "/weights.pth", "wb"))
        threading.Thread(target=commit_again_and_again, args=(model + "/" + name,), daemon=True).start()
"""


def test_commits_that_wait_for_one_user_s_open_files_hold_up_no_other_user(house, drive):
    """Each of them takes a second until it is refused; there are eighty at any moment."""
    carl = house.worker(uid=CARL)
    v = minted(model_of(drive, BEN), BEN)
    carl.do(REFUSED_COMMITS, model=model_of(drive, CARL))
    wait_until(lambda: "weights.pth is open for writing" in drive.log_text(), what="a refused commit")
    began = time.monotonic()
    apart(commit, v, uid=BEN)
    took = time.monotonic() - began
    assert state(v) == "committed" and took < 3, took
    carl.kill()
