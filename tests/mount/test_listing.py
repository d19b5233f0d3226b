"""Listings: whole, without doubles, whatever happens to the directory meanwhile."""
import os

import pytest

from drive import commit, write

NAMES = [f"shard-{i:05}.bin" for i in range(3000)]


@pytest.mark.parametrize("already_read", [0, 1, 700, 2999, 3000])
def test_a_listing_that_a_commit_meets_goes_on_with_what_it_had_not_told(drive, already_read):
    version = drive.mint()
    for name in NAMES:
        write(version / name, b"x")
    with os.scandir(version) as listing:
        told = [next(listing).name for _ in range(already_read)]
        commit(version)
        told += [entry.name for entry in listing]
    assert sorted(n for n in told if n != "metadata.json") == NAMES


def test_a_listing_that_is_begun_anew_after_a_commit_is_that_of_the_version(drive):
    version = drive.mint()
    for name in NAMES[:100]:
        write(version / name, b"x")
    fd = os.open(version, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sorted(os.listdir(fd)) == NAMES[:100]
        commit(version)
        assert sorted(os.listdir(fd)) == ["metadata.json"] + NAMES[:100]
    finally:
        os.close(fd)
