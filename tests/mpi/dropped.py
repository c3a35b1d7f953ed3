"""Scans in which whole shares and whole chunks cannot be read: dropped.py FOLDER, under mpirun and without.

What each rank's frames were is in FOLDER/<rank>.json: {case: [[frame number, first pixel, good pixels], ...]}.
"""
import json
import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from ptyprep import EOS, WAIT, Par, PtyScan
from ptyprep.errors import SourceError
from ptyprep.parallel.mpi import room
from ptyprep.sinks import SINKS
from ptyprep.sources import ArrayFrames

POINTS, CHUNK = 24, 6       # so that each of three ranks has two frames of a chunk
FRAMES = np.arange(1, POINTS + 1, dtype="u2")[:, None, None] * np.ones((1, 8, 8), "u2")
BAD = {"one share": (2, 3), "the first chunk": range(6), "the last chunk": range(18, 24), "a chunk": range(6, 12),
       "chunks in a row": range(6, 18), "all but one": sorted(set(range(24)) - {13}),
       "shares of many": (0, 1, 8, 9, 12, 13, 14, 15, 22, 23), "one of a share": (4, 11)}


class Burnt(ArrayFrames):
    """Frames of which some cannot be read; any thread may read them."""

    def __init__(self, bad):
        super().__init__(FRAMES)
        self.burnt = set(bad)

    @contextmanager
    def reader(self, window=None):
        yield partial(self._fill, window)

    def blocks(self, indices, most):
        return [slice(start, start + 1) for start in range(len(indices))]

    def read(self, indices, window=None):
        if self.burnt & set(indices):
            raise SourceError(f"frame {min(self.burnt & set(indices))} is burnt")
        return super().read(indices, window)

    def _fill(self, window, indices, out):
        out[...] = self.read(indices, window)


class Streams(PtyScan):
    """Frames straight from a source."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
    burnt, asked, live = (), 0, False

    def open(self):
        return Burnt(self.burnt)

    def load_positions(self):
        return np.arange(2.0 * POINTS).reshape(POINTS, 2) * 1e-7

    def check(self, frames, start):
        self.asked += 1
        there = min(POINTS, 3 * self.asked) if self.live else POINTS
        return max(min(frames, there - start), 0), there == POINTS


class Loads(Streams):
    """Frames from load()."""

    def load(self, indices):
        return self.source.read(indices)


class Brings(Loads):
    """Positions and masks come with the frames."""

    def load_positions(self):
        return None

    def load(self, indices):
        frames = self.source.read(indices)
        return frames, np.array(indices)[:, None] * np.array([2e-7, 2e-7]) + [0, 1e-7], np.ones(frames.shape)


class Corrects(Loads):
    """Counts become floats."""

    def correct(self, raw, weights, common):
        return raw * np.float32(1), weights


def cases():
    """Every recipe, and every way to save, with every lot of bad frames; how they are taken goes round."""
    for i, (recipe, policy) in enumerate([(recipe, policy) for recipe in (Streams, Loads, Brings, Corrects)
                                          for policy in ("drop", "mask") if (recipe, policy) != (Brings, "mask")]):
        for j, bad in enumerate(BAD):
            yield recipe, policy, bad, (i + j) % 2 == 1, ("auto", "batches")[(i + j // 2) % 2]
    for i, mode in enumerate(SINKS):
        for j, bad in enumerate(BAD if i == 0 else list(BAD)[i::2]):
            yield ((Streams, Loads)[(i + j) % 2], "drop", bad, j % 2 == 1,
                   f"{mode} {('prepare', 'auto', 'batches')[(i + j) % 3]}")
        yield Streams, "mask", "chunks in a row", False, f"{mode} prepare"


def name(recipe, policy, bad, live, way):
    return f"{recipe.__name__}, {policy} {bad}, {'live, ' * live}{way}"


def rows(recipe, policy, bad, live, way):
    kind = type(recipe.__name__, (recipe,), {"__doc__": recipe.__doc__, "__module__": __name__, "burnt": BAD[bad],
                                             "live": live})
    output = f"{name(recipe, policy, bad, live, way)}.ptyd"
    *mode, way = way.split()
    pars = {"dfile": output, "save": mode[0]} if mode else {}
    scan = kind(bad_frames=policy, min_frames=CHUNK, frames_per_chunk=CHUNK, threads=2, **pars).initialize()
    given = []
    if way == "prepare":
        scan.prepare(CHUNK)
    elif way == "batches":
        given += scan.batches(CHUNK, pause=0)
    else:
        while (package := scan.auto(CHUNK)) is not EOS:
            given += [package.batch] if package is not WAIT else []
    assert sorted(number for number, _ in scan.bad) == sorted(BAD[bad])
    assert all(batch.data.dtype == ("f4" if recipe is Corrects else "u2") for batch in given)
    return [[int(frame), int(data[0, 0]), int(weight.sum())] for batch in given
            for frame, data, weight in zip(batch.frame, batch.data, batch.weight)]


def main(folder):
    os.chdir(folder)
    told = {name(*case): rows(*case) for case in cases()}
    Path(f"{room().rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
