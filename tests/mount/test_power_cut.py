"""Power cut at each named point of mint, commit, discard, alias, retire, gc, import, runs of processes, backup, and of the death of a worker and an upgrade: what was acknowledged is there byte for byte, the rest wholly or not at all."""
import random

import pytest

from power_story import AfterTheCut, Story, possible

# In docs/design/registry.md; a story that does not come by one of them would prove nothing of it.
POINTS = {"mint.directory-made", "mint.recorded", "commit.hashed", "commit.metadata-written", "commit.blobs-put", "commit.in-transaction",
          "commit.recorded", "commit.tidying", "commit.staging-emptied", "commit.sealed", "discard.recorded", "alias.begin", "alias.recorded", "retire.begin", "retire.recorded",
          "gc.in-transaction", "gc.recorded", "import.content", "import.in-transaction", "import.blobs-put", "import.recorded", "import.name-gone", "import.settled",
          "process.begin", "process.begun", "process.step-recorded", "process.finish", "process.in-transaction", "process.finished",
          "backup.marked", "backup.catalog-copied", "backup.content", "backup.contents-copied", "backup.published",
          "keeper.death", "keeper.closed", "keeper.upgrade"}


@pytest.mark.seconds(240)
@pytest.mark.skipif(possible() is not None, reason=str(possible()))
def test_power_cut_at_each_named_point_leaves_the_old_state_or_the_new_one(house):
    story = Story(house)
    story.tell(chapters=1)
    story.open_log()
    places, start = story.places(), story.start()
    passed = {text for _, _, text in places}
    if "mint.recorded" not in passed:
        pytest.skip("this mintfs was built without crash points")
    assert POINTS <= passed, f"not passed: {POINTS - passed}"
    pick, seen = random.Random(20250715), set()
    for n, noted, text in places:
        if n < start or text in seen or "begin " in text or " synced " in text:
            continue
        seen.add(text)
        after = AfterTheCut(story, n, pick if text in POINTS else None)
        try:
            after.check()
        except AssertionError as e:
            raise AssertionError(f"cut at record {n}, {text!r} ({after.what}): {e}") from e
    assert len(seen) > len(POINTS)
