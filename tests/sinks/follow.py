"""A reader that follows a .ptyd while it grows, by PtyPy's rules and with h5py alone: follow.py FILE OUT.npz WHOSE.

Polls all the time and stops at the first thing that is not as it should be. WHOSE count of frames it waits for:
`first`, the one that it read when it began, as PtyPy does; or `newest`, whatever the file says at each poll. Every
chunk that is visible is read whole in every poll, and must stay as it was; each frame is handed on once.
"""
import sys
import time
from pathlib import Path

import h5py
import numpy as np

NAMES = ("data", "weights", "positions", "indices", "frame_ids")
PATIENCE = 60       # seconds


def poll(path, seen):
    """Look once: the number of frames that the file says; `seen` gets the chunks that are new."""
    with h5py.File(path, "r") as file:
        count = int(file["meta/num_frames"][()])
        for number in sorted(file["chunks"], key=int):
            chunk = file["chunks"].get(number)
            if chunk is None:           # a link to a part that is not there yet
                continue
            now = {name: chunk[name][()] for name in NAMES}
            assert len({len(values) for values in now.values()}) == 1, f"chunk {number} is not whole"
            if number in seen:
                assert all(np.array_equal(seen[number][name], now[name]) for name in NAMES), f"chunk {number} changed"
            else:
                before = [str(n) for n in range(int(number)) if str(n) not in seen]
                if before:      # they may have come since this poll passed them
                    assert None not in map(file["chunks"].get, before), f"chunk {number} came before its turn"
                    return count
                seen[number] = now
    return count


def main(path, out, whose):
    path, seen, count, polls = Path(path), {}, None, 0
    deadline = time.monotonic() + PATIENCE
    while count is None or sum(len(chunk["data"]) for chunk in seen.values()) < count:
        assert time.monotonic() < deadline, f"{len(seen)} chunks after {polls} polls, and still waiting"
        if not path.exists():
            assert not seen, "the file is gone"
            continue
        now = poll(path, seen)
        count = now if count is None or whose == "newest" else count
        polls += 1
        path.with_name("polls").write_text(str(polls))
    np.savez(out, count=count, polls=polls, chunks=len(seen),
             **{name: np.concatenate([chunk[name] for chunk in seen.values()]) for name in NAMES})


if __name__ == "__main__":
    main(*sys.argv[1:])
