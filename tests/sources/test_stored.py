"""What lies in a file in other bits than NumPy's, was written again meanwhile, or is read by a source's own `read`."""
import h5py
import numpy as np
import pytest

from ptyprep import Par, PtyScan
from ptyprep.errors import SourceError
from ptyprep.processing.plan import Window
from ptyprep.sources import Hdf5Stack, open_frames

FRAMES = np.random.default_rng(4).integers(0, 4000, (6, 8, 9)).astype("u2")


def write(path, frames, chunks=None, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=frames, chunks=chunks, **options)
    return path


@pytest.mark.parametrize("chunks", [None, (1, 8, 9)])
def test_numbers_of_twelve_bits_are_left_to_hdf5(tmp_path, chunks):
    kind = h5py.h5t.STD_U16LE.copy()
    kind.set_precision(12)
    kind.set_offset(4)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if chunks:
            plist.set_chunk(chunks)
        data = h5py.h5d.create(file.id, b"data", kind, h5py.h5s.create_simple(FRAMES.shape), plist)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, FRAMES)
    source = Hdf5Stack(tmp_path / "f.h5")
    assert np.array_equal(source.read(range(6)), FRAMES) and "bits" in source.road()


@pytest.mark.parametrize("chunks", [None, (1, 8, 9)])
@pytest.mark.parametrize("again, words", [(FRAMES[:3], "has 3 frames, expected 6"),
                                          (FRAMES.astype("u4"), "holds uint32, expected uint16"),
                                          (FRAMES[:, :7], "has frames of .7, 9. pixels, expected .8, 9.")])
def test_a_file_that_was_written_again_is_not_believed(tmp_path, chunks, again, words):
    source = Hdf5Stack(write(tmp_path / "f.h5", FRAMES, chunks))
    write(tmp_path / "f.h5", again, chunks and (1, 7, 9))
    with pytest.raises(SourceError, match=words):
        source.read([4, 5])


@pytest.mark.parametrize("chunks", [(1, 8, 9), (2, 8, 9), (3, 4, 9), (1, 5, 4)])
@pytest.mark.parametrize("options", [{"shuffle": True, "compression": "gzip"}, {"compression": "gzip"},
                                     {"shuffle": True}], ids=" ".join)
def test_filters_that_some_chunks_skipped_are_not_undone(tmp_path, chunks, options):
    """HDF5 leaves out a filter that fails, and programs those that gain nothing: each chunk says which."""
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", FRAMES.shape, FRAMES.dtype, chunks=chunks, **options)
        for number, part in enumerate(data.iter_chunks()):
            if number % 2:
                data[part] = FRAMES[part]
                continue
            chunk = np.zeros(chunks, FRAMES.dtype)
            chunk[tuple(slice(n) for n in FRAMES[part].shape)] = FRAMES[part]
            data.id.write_direct_chunk([s.start for s in part], chunk.tobytes(), 2**len(options) - 1)
    with h5py.File(path) as file:
        assert np.array_equal(file["data"], FRAMES)
    source = Hdf5Stack(path)
    assert np.array_equal(source.read(range(6)), FRAMES)
    assert np.array_equal(source.read([4, 1], Window(slice(2, 7), slice(3, 8))), FRAMES[[4, 1], 2:7, 3:8])


def test_a_damaged_index_of_chunks_is_named_and_others_are_read(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.h5", FRAMES, (1, 8, 9))
    layout = h5py.VirtualLayout((12, 8, 9), "u2")
    for number in range(2):
        layout[6 * number:6 * number + 6] = h5py.VirtualSource(f"{number}.h5", "data", FRAMES.shape, "u2")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    source = Hdf5Stack(tmp_path / "v.h5")
    octets = (tmp_path / "1.h5").read_bytes()
    at = octets.index(b"TREE\x01")
    (tmp_path / "1.h5").write_bytes(octets[:at] + b"XXXX" + octets[at + 4:])
    assert np.array_equal(source.read([5]), FRAMES[[5]])
    with pytest.raises(SourceError, match="1.h5: /?data cannot be read"):
        source.read([5, 6])


def test_what_a_source_does_in_its_own_read_is_done(tmp_path):
    class Dark(Hdf5Stack):
        """Adds one to all counts."""

        def read(self, indices, window=None):
            return super().read(indices, window) + np.uint16(1)

    class Scan(PtyScan):
        """Frames of such a source."""
        energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
        own = Dark

        def open(self):
            return self.own(tmp_path / "f.h5")

        def load_positions(self):
            return np.zeros((6, 2))
    write(tmp_path / "f.h5", FRAMES, (1, 8, 9))
    plain = type("Plain", (Scan,), {"__doc__": "Frames as they are.", "own": Hdf5Stack})().initialize()
    dark = Scan().initialize()
    assert plain.streams and not dark.streams
    assert np.array_equal(next(dark.batches(6)).data, FRAMES + 1)
    assert np.array_equal(next(plain.batches(6)).data, open_frames(tmp_path / "f.h5").read(range(6)))
