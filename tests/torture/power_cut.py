"""Power cut after any write of the disk under a store: what was acknowledged is there, byte for byte, and the rest wholly or not at all."""
import argparse
import collections
import concurrent.futures
import multiprocessing
import os
import random
import signal
import sys
import threading
import time

import drive as tools
from power_story import AfterTheCut, Story, possible


def flusher(top, stop, seed):
    """Writes back at odd moments, as a kernel does that is short of memory: files and names reach the disk in another order than they were made."""
    pick = random.Random(seed)
    while not stop.wait(pick.random() * 0.03):
        fd = os.open(top, os.O_RDONLY)
        tools.libc.syncfs(fd)
        os.close(fd)


def be_a_house():
    """Each process that tells stories takes in what its drives leave behind, and clears up when it is ended."""
    tools.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def end(pool):
    """Told to stop: nothing new begins, and who is at work clears up."""
    pool.shutdown(wait=False, cancel_futures=True)
    for p in multiprocessing.active_children():
        p.terminate()
    sys.exit(1)


def one_story(seed, chapters, cuts, flush, options, deadline):
    """Returns (cuts made, what was wrong)."""
    if time.monotonic() > deadline:
        return 0, []
    house = tools.House(tools.new_folder())
    wrong, made, places = [], 0, collections.Counter()
    stop = threading.Event()
    try:
        story = Story(house, options)
        thread = threading.Thread(target=flusher, args=(story.disk.top, stop, seed))
        if flush:
            thread.start()
        try:
            story.tell(chapters, before_end=stop.set)
        finally:
            stop.set()
            if flush:
                thread.join()
        replay = story.open_log()
        pick, start, end = random.Random(seed), story.start(), len(replay.records)
        named = [n for n, _, text in story.places() if n >= start and not text[0].isdigit()]
        at = sorted(named + [pick.randrange(start, end + 1) for _ in range(cuts)])
        texts = {n: text for n, _, text in story.places()}
        for i, n in enumerate(at):
            if time.monotonic() > deadline:
                break
            after = AfterTheCut(story, n, pick if i % 4 else None)
            made += 1
            places[texts[n] if n in named else "between"] += 1
            try:
                after.check()
            except (AssertionError, OSError) as e:
                wrong.append(f"seed {seed}, record {n} of {end}, {texts.get(n, 'between')!r} ({after.what}): {e}")
                print("  " + wrong[-1], flush=True)
        print(f"story {seed} ({'written back at odd moments' if flush else 'written back by syncs alone'}, {options or 'passthrough'}): {end} records, {made} cuts, "
              f"{len(wrong)} wrong; {dict(places)}", flush=True)
    finally:
        stop.set()
        wrong += house.close()
        house.remove()
    return made, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="two stories, each cut at all named places and at 40 more (the default)")
    parser.add_argument("--full", action="store_true", help="20 stories, each cut at all named places and at 500 more")
    parser.add_argument("--stories", type=int)
    parser.add_argument("--cuts", type=int, help="of each story, beside the named places")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=int, default=1 << 30, help="no new cut after so long")
    parser.add_argument("--jobs", type=int, default=2 * os.cpu_count(), help="stories at once; much of a cut is waiting (default: twice the processors)")
    given = parser.parse_args()
    stories = given.stories or (20 if given.full else 2)
    cuts = given.cuts or (500 if given.full else 40)
    deadline = time.monotonic() + given.seconds
    work = [(given.seed + n, 1 + n % 3, cuts, n % 2 == 1, ("nopassthrough",) if n % 4 == 3 else (), deadline) for n in range(stories)]
    with concurrent.futures.ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn"), be_a_house) as pool:
        signal.signal(signal.SIGTERM, lambda *_: end(pool))
        results = list(pool.map(one_story, *zip(*work)))
    made, wrong = sum(m for m, _ in results), [w for _, found in results for w in found]
    for w in wrong:
        print("wrong: " + w)
    print(f"verdict: {made} power cuts; {'every store was whole' if not wrong else f'{len(wrong)} WRONG'}")
    return 1 if wrong or not made else 0


if __name__ == "__main__":
    why = possible() or (None if os.geteuid() == 0 else "mounting needs root")
    if why:
        print(why)
        sys.exit(77)
    sys.exit(main())
