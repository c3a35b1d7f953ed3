"""The fast road through chunks, threads and blocks gives to the last bit what the slow one through NumPy does."""
from unittest.mock import patch

import h5py
import hdf5plugin
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptyprep import Par, PtyScan
from ptyprep.processing.plan import FramePlan
from ptyprep.sources import open_frames
from ptyprep.testing import read_ptyd

KINDS = ["u1", "u2", ">u2", "u4", "i2", "i4", ">i4", "f4", "f8", "?"]
FILTERS = {"bslz4": dict(hdf5plugin.Bitshuffle(cname="lz4")), "lz4": dict(hdf5plugin.LZ4()), "none": {},
           "gzip": {"compression": "gzip"}, "shuffled gzip": {"compression": "gzip", "shuffle": True},
           "shuffled": {"shuffle": True}, "lzf": {"compression": "lzf"}, "checked": {"fletcher32": True},
           "small blocks": dict(hdf5plugin.Bitshuffle(nelems=16, cname="lz4"))}
LAYOUTS = ["dataset", "contiguous", "user block", "links", "virtual", "interleaved", "modules"]


class Stack(PtyScan):
    """Frames of one dataset."""
    energy, distance, psize = Par(7.0), Par(2.0), Par(75e-6)
    path: str = Par(doc="The file.")

    def open(self):
        return open_frames(self.p.path, "data")

    def load_positions(self):
        return np.zeros((self.source.shape[0], 2))

    def load_weight(self):
        good = np.ones(self.source.shape[1:], bool)
        good[::5, 3] = False
        return good


def numbers(kind, shape, random):
    """Counts with what a detector writes for overflow, gaps and nonsense."""
    values = random.poisson(20, shape).astype(kind)
    odd = random.random(shape) < 0.02
    if values.dtype.kind in "iu":
        values[odd] = np.iinfo(kind).max
        if values.dtype.kind == "i":
            values[random.random(shape) < 0.02] = -2
    elif values.dtype.kind == "f":
        values[odd] = random.choice([np.nan, np.inf, -np.inf], odd.sum())
    return values


def slowly(values, good, plan):
    """(frames, masks) by NumPy, one whole frame after the other."""
    frames, masks = [], []
    for frame in values:
        mask = good.copy()
        if frame.dtype.kind == "f":
            mask &= np.isfinite(frame)
            frame = np.where(np.isfinite(frame), frame, 0)
        elif frame.dtype.kind in "iu":
            mask &= frame != np.iinfo(frame.dtype).max
        frames.append(plan.apply(plan.window.cut(frame[None]))[0])
        masks.append(plan.apply_weight(plan.window.cut(mask)))
    return np.array(frames), np.array(masks)


def write(folder, values, layout, chunks, filters):
    """raw.h5 whose dataset `data` holds these frames, in one of `LAYOUTS`; no name in it leads beside the folder."""
    n, h, _ = values.shape
    path = folder / "raw.h5"
    if layout in ("dataset", "contiguous", "user block"):
        if layout == "contiguous":
            chunks, filters = None, {}
        with h5py.File(path, "w", userblock_size=512 if layout == "user block" else 0) as file:
            file.create_dataset("data", data=values, chunks=chunks, **filters)
        return
    # where the frames of each file lie in the whole: (frames, rows)
    some = {"links": [(slice(None), slice(None))],
            "virtual": [(slice(0, n // 2), slice(None)), (slice(n // 2, n), slice(None))],
            "interleaved": [(slice(i, None, 3), slice(None)) for i in range(min(n, 3))],
            "modules": [(slice(None), slice(0, h // 2)), (slice(None), slice(h // 2, h))]}[layout]
    joined = h5py.VirtualLayout(values.shape, values.dtype)
    for number, place in enumerate(some):
        part = values[place]
        if part.size:
            with h5py.File(folder / f"{number}.h5", "w") as file:
                chunk = tuple(min(c, size) for c, size in zip(chunks, part.shape))
                file.create_dataset("part", data=part, chunks=chunk, **filters)
            joined[place] = h5py.VirtualSource(f"{number}.h5", "part", part.shape, part.dtype)
    with h5py.File(path, "w") as file:
        if layout == "links":
            file["data"] = h5py.ExternalLink("0.h5", "/part")
        else:
            file.create_virtual_dataset("data", joined)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_both_roads_lead_to_the_same(tmp_path_factory, data):
    n, h, w = (data.draw(st.integers(low, high)) for low, high in ((1, 13), (8, 40), (8, 40)))
    kind, how = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(sorted(FILTERS)))
    chunks = tuple(data.draw(st.integers(1, size)) for size in (n, h, w)) if data.draw(st.booleans()) else (1, h, w)
    rebin = data.draw(st.sampled_from([1, 1, 2, 3]))
    wish = {"shape": tuple(rebin * data.draw(st.integers(1, size // rebin)) for size in (h, w)), "rebin": rebin,
            "center": (data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))),
            "orientation": data.draw(st.integers(0, 7))}
    folder = tmp_path_factory.mktemp("roads")
    values = numbers(kind, (n, h, w), np.random.default_rng(data.draw(st.integers(0, 99))))
    write(folder, values, data.draw(st.sampled_from(LAYOUTS)), chunks, FILTERS[how])
    scan = Stack(path=str(folder / "raw.h5"), dfile=folder / "s.ptyd", threads=data.draw(st.sampled_from([1, 3])),
                 compression=data.draw(st.sampled_from(["portable", "bslz4", "none"])), **wish).initialize()
    with patch("ptyprep.parallel.buffers.SMALL", 1):     # memory is taken again, though frames are small
        size = data.draw(st.integers(1, n))
        batches = scan.prepare(size) if (gone := data.draw(st.booleans())) else list(scan.batches(size))

    good = np.ones((h, w), bool)
    good[::5, 3] = False
    frames, masks = slowly(values, good, FramePlan.make((h, w), **wish))
    if not gone:
        assert np.array_equal(np.concatenate([batch.data for batch in batches]), frames)
        assert np.array_equal(np.concatenate([batch.weight for batch in batches]), masks)
    saved = read_ptyd(folder / "s.ptyd")
    assert saved["data"].dtype == frames.dtype.newbyteorder("=")
    assert np.array_equal(saved["data"], frames) and np.array_equal(saved["weights"], masks)
