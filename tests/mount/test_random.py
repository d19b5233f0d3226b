"""The same random work in a draft and in a directory of ext4: results, errors, contents and attributes must agree, with passthrough and without.

Two ways to the same operations (posix_world.py). Hypothesis makes many short works, each on an empty directory, and shrinks one that
tells a difference to the fewest steps. Long works are made from a seed (MINTFS_SEED, else fixed); MINTFS_OPS says how many steps,
MINTFS_EXAMPLES how many short works; `scripts/torture` sets them high."""
import os
import stat
import sys
import time

import pytest

from drive import commit, snapshot
from posix_world import OPERATIONS, ROOT, Work, World, alike, told

try:
    import hypothesis
    import hypothesis.stateful
    from hypothesis import strategies
except ImportError:
    hypothesis = None

SEED = int(os.environ.get("MINTFS_SEED", "20250715"))
STEPS = int(os.environ.get("MINTFS_OPS", "20000"))
EXAMPLES = int(os.environ.get("MINTFS_EXAMPLES", "60"))
LIMIT = 100 + STEPS // 300 + EXAMPLES  # seconds
DATA_PATHS = pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["passthrough", "by_the_daemon"])


@pytest.fixture(autouse=True)
def usual_umask():
    old = os.umask(0o022)
    yield
    os.umask(old)


def pair(house, draft, name):
    """Two empty directories of one name."""
    for top in (draft, house.folder / "plain"):
        (top / name).mkdir(parents=True)
        os.chmod(top / name, 0o1777)
    return World(draft / name), World(house.folder / "plain" / name)


def compare(ours, theirs, steps):
    a, b = snapshot(ours.top, times=False), snapshot(theirs.top, times=False)
    assert a == b, f"the trees differ in {sorted(n for n in set(a) | set(b) if a.get(n) != b.get(n))}\n{told(steps)}"


@DATA_PATHS
@pytest.mark.seconds(LIMIT)
def test_a_draft_behaves_as_ext4_in_a_long_work(house, store, options):
    draft = house.mount(store, options=options).mint()
    ours, theirs = pair(house, draft, "here/there/work")
    work, steps, seed, began = Work(SEED + len(options)), [], SEED + len(options), time.monotonic()
    succeeded = dict.fromkeys(OPERATIONS, 0)
    try:
        for n in range(STEPS):
            if n % 20 == 0:
                work.look(theirs.top)
            step = work.step()
            steps.append(step)
            a, b = ours.do(step), theirs.do(step)
            assert alike(a, b), f"seed {seed}, step {n}: the draft says {a!r}, ext4 says {b!r}\n{told(steps)}"
            succeeded[step[0]] += not (isinstance(a, tuple) and a[:1] == ("error",))
            if n % 200 == 199:
                compare(ours, theirs, steps)
                del steps[:-50]
    finally:
        ours.close_all()
        theirs.close_all()
    print(f"seed {seed}, {STEPS} operations in {time.monotonic() - began:.1f} s; succeeded: {succeeded}", file=sys.stderr)
    never = [k for k, n in succeeded.items() if not n]
    assert not never or STEPS < 20000, f"never succeeded: {never}"
    plain = house.folder / "plain/here"
    for top in (draft / "here", plain):
        (top / "last").write_bytes(b"at least one file")
    before = snapshot(plain, times=False)
    commit(draft)
    after = snapshot(draft / "here", times=False)
    for name, was in before.items():
        expected = list(was)
        if was[0] != stat.S_IFLNK:
            expected[1] &= 0o3555 if was[0] == stat.S_IFDIR else 0o555
        assert list(after[name]) == expected, f"seed {seed}: {name!r} after the commit"
    assert set(after) == set(before)


def machine(house, draft):
    """A state machine of Hypothesis with a rule for each operation."""

    class Short(hypothesis.stateful.RuleBasedStateMachine):
        runs = 0

        def __init__(self):
            super().__init__()
            Short.runs += 1
            os.umask(0o022)
            self.steps = []
            self.ours, self.theirs = pair(house, draft, f"{Short.runs}/there/work")

        def both(self, step):
            self.steps.append(step)
            a, b = self.ours.do(step), self.theirs.do(step)
            assert alike(a, b), f"{step[0]}: the draft says {a!r}, ext4 says {b!r}\n{told(self.steps)}"

        def teardown(self):
            try:
                for world in (self.ours, self.theirs):
                    world.who = ROOT
                    world.close_all()
                compare(self.ours, self.theirs, self.steps)
            finally:
                os.umask(0o022)

    def drawn(make):
        @strategies.composite
        def strategy(draw):
            return make(lambda options: draw(strategies.sampled_from(options)))
        return strategy()

    for name, (_, kinds) in OPERATIONS.items():
        def one(self, name=name, **given):
            self.both((name,) + tuple(given[k] for k in sorted(given)))
        one.__name__ = name
        setattr(Short, name, hypothesis.stateful.rule(**{f"x{i}": drawn(k) for i, k in enumerate(kinds)})(one))
    return Short


@DATA_PATHS
@pytest.mark.seconds(LIMIT)
@pytest.mark.skipif(hypothesis is None, reason="python3-hypothesis is not installed")
def test_a_draft_behaves_as_ext4_in_many_short_works(house, store, options):
    draft = house.mount(store, options=options).mint()
    kind = machine(house, draft)
    settings = hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None, database=None, derandomize="MINTFS_EXAMPLES" not in os.environ,
                                   suppress_health_check=list(hypothesis.HealthCheck))
    hypothesis.stateful.run_state_machine_as_test(kind, settings=settings)
    assert kind.runs >= EXAMPLES
