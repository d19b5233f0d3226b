"""Each test has a folder, a store and drives of its own, and a time limit; what its daemons logged is shown when it fails."""
import faulthandler
import os
import shutil
import signal
import sys
import threading

sys.dont_write_bytecode = True
import pytest  # noqa: E402

import drive as tools  # noqa: E402

LIMIT = int(os.environ.get("MINTFS_TEST_SECONDS", "60"))
BUSY = 2  # times as long as a test may need where nothing else runs
SKIPPED = 77  # ctest's SKIP_RETURN_CODE
tools.become_subreaper()


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): time limit of a test that needs more than the usual")


def missing():
    if not tools.binary():
        return "MINTFS_BIN does not say which mintfs to test"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.geteuid() != 0:
        return "mount tests need root: they make users, devices and file systems"
    for program in ("fusermount3", "chattr"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return None


def pytest_collection_modifyitems(config, items):
    lack = missing()
    for item in items if lack else []:
        item.add_marker(pytest.mark.skip(reason=lack))


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if exitstatus == 0 and reporter and reporter.stats.get("skipped") and not reporter.stats.get("passed"):
        session.exitstatus = SKIPPED


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    house = getattr(item, "house", None)
    if house and report.failed:
        for d in house.drives:
            text = d.log_text()
            if text:
                report.sections.append((f"log of {d.at.name}", text[-8000:]))


class Alarm:
    """A test that waits too long is interrupted; if it hangs in the kernel, its daemons are killed, which frees it."""

    def __init__(self, house, seconds):
        self.house, self.seconds = house, seconds

    def __enter__(self):
        def ring(*_):
            raise TimeoutError(f"the test took more than {self.seconds} s")

        def give_up():
            faulthandler.dump_traceback(all_threads=True)
            self.house.kill_daemons()

        self.old = signal.signal(signal.SIGALRM, ring)
        signal.alarm(self.seconds)
        self.timer = threading.Timer(self.seconds + 5, give_up)
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *_):
        signal.alarm(0)
        self.timer.cancel()
        signal.signal(signal.SIGALRM, self.old)


@pytest.fixture
def house(request):
    folder = tools.new_folder()
    if folder is None:
        pytest.skip("every place for temporary files lies on overlayfs")
    h = tools.House(folder)
    request.node.house = h
    here = os.getcwd()
    mark = request.node.get_closest_marker("seconds")
    with Alarm(h, BUSY * (mark.args[0] if mark else LIMIT)):
        yield h
    os.chdir(here)
    wrong = []
    try:
        with Alarm(h, 60):
            wrong = h.close()
    finally:
        if not os.environ.get("MINTFS_KEEP"):
            h.remove()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def store(house):
    return house.init()


@pytest.fixture
def drive(house, store):
    return house.mount(store)


@pytest.fixture
def model(drive):
    return drive.model()


@pytest.fixture
def draft(drive):
    return drive.mint()
