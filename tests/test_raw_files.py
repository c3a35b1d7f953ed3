"""A raw file that is replaced, rewritten, cut or removed while it is read stops the scan; whatever leaves its bytes as
they were does not."""
import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptyprep import Par, PtyScan, recipe
from ptyprep.errors import ChangedError, OutputError, PeerError, SourceError
from ptyprep.filesystem.raw_files import RawFiles, opening
from ptyprep.parallel.mpi import room
from ptyprep.parallel.threads import in_threads
from ptyprep.sources import open_frames
from ptyprep.testing import read_ptyd, run_on_ranks, write_dectris, write_positions

FRAMES = np.random.default_rng(11).poisson(20, (12, 16, 20)).astype("u4")
POSITIONS = np.stack(np.divmod(np.arange(12), 4), axis=1) * [1e-6, 1.5e-6]
GEOMETRY = {"energy": 9.5, "distance": 2.25, "psize": 55e-6, "center": (8, 10), "threads": 2}


def _eiger(folder, frames):
    data = write_dectris(folder / "s_master.h5", frames, frames_per_file=5)
    return [folder / "s_master.h5", *data]


def _hdf5(folder, frames, **options):
    with h5py.File(folder / "s.h5", "w") as file:
        file.create_dataset("data", data=frames, **options)
    return [folder / "s.h5"]


def _gzip(folder, frames):
    return _hdf5(folder, frames, chunks=(1, 16, 20), compression="gzip")


def _lzf(folder, frames):
    return _hdf5(folder, frames, chunks=(1, 16, 20), compression="lzf")


def _images(folder, frames):
    fabio = pytest.importorskip("fabio")
    for number, frame in enumerate(frames):
        fabio.tifimage.TifImage(data=frame).write(str(folder / f"i_{number:03}.tif"))
    return sorted(folder.glob("i_*.tif"))


def _npy(folder, frames):
    np.save(folder / "s.npy", frames)
    return [folder / "s.npy"]


def _ptyd(folder, frames):
    np.save(folder / "before.npy", frames)
    recipe("savu")({**GEOMETRY, "data": folder / "before.npy", "positions_theory": POSITIONS, "save": "link",
                    "frames_per_chunk": 4, "dfile": folder / "s.ptyd"}).initialize().prepare()
    return [folder / "s.ptyd", *sorted(part for part in folder.rglob("*.ptyd") if part.name != "s.ptyd")]


KINDS = {"eiger": (_eiger, "eiger", "file"), "hdf5": (_hdf5, "hdf5", "intensities.file"),
         "gzip": (_gzip, "hdf5", "intensities.file"), "lzf": (_lzf, "hdf5", "intensities.file"),
         "images": (_images, "images", "files"), "npy": (_npy, "savu", "data"), "ptyd": (_ptyd, "ptyd", "source")}


def written(folder, kind, frames=FRAMES):
    """The raw files of a kind, of long ago: the clock that stamps files has ticks of some ms."""
    folder.mkdir(exist_ok=True)
    files = KINDS[kind][0](folder, frames)
    for file in files:
        os.utime(file, ns=(1_700_000_000_000_000_000,) * 2)
    return files


def made(folder, kind, **more):
    """A scan of four frames in a chunk, of files that were written there."""
    first = folder / "i_*.tif" if kind == "images" else sorted(folder.glob("s*"), key=lambda file: (
        not file.name.endswith(("_master.h5", ".ptyd")), file.name))[0]
    _, name, parameter = KINDS[kind]
    return recipe(name)({**GEOMETRY, parameter: first, "positions_theory": POSITIONS, "frames_per_chunk": 4,
                         "dfile": folder / "out.ptyd", **more})


def rename(file, other):
    other.replace(file)


def rename_an_equal_time(file, other):
    os.utime(other, ns=(file.stat().st_mtime_ns,) * 2)
    other.replace(file)


def rewrite(file, other):
    with open(file, "r+b") as opened:
        opened.write(other.read_bytes()[:file.stat().st_size])


def cut(file, other):
    size = file.stat().st_size
    os.truncate(file, max(size - 700, size // 2))       # half a frame


def remove(file, other):
    file.unlink()


WAYS = {way.__name__: way for way in (rename, rename_an_equal_time, rewrite, cut, remove)}


def prepared_while(way, folder, kind, name, **more):
    """Prepare a scan, and do that to one of its raw files after the first chunk."""
    scan = made(folder / "raw", kind, **more).initialize()

    def progress(_):
        if scan.frames_done == 4 and scan.comm.is_root:
            way(folder / "raw" / name, folder / "other" / name)
    scan.prepare(progress=progress)


def read(file, _):
    file.read_bytes()
    os.utime(file, ns=(1, file.stat().st_mtime_ns))


def chmod(file, _):
    file.chmod(0o600)


HARMLESS = {way.__name__: way for way in (read, chmod)}


@pytest.fixture
def both(tmp_path, request):
    """The raw files of a kind, in the folder raw, and in the folder other the same with other frames."""
    kind = request.param
    written(tmp_path / "other", kind, FRAMES[::-1] + 1)
    return kind, [file.relative_to(tmp_path / "raw") for file in written(tmp_path / "raw", kind)]


@pytest.mark.parametrize("both", KINDS, indirect=True)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", [0, -1], ids=["a file that was read", "one that is not read yet"])
def test_a_file_that_is_another_one_stops_the_scan(tmp_path, both, way, which):
    kind, names = both
    with pytest.raises(SourceError) as failed:
        prepared_while(WAYS[way], tmp_path, kind, names[which])
    said = str(failed.value)
    assert str(names[which]) in said and not (tmp_path / "raw" / "out.ptyd").exists()
    if isinstance(failed.value, ChangedError):
        assert "since the scan first opened it" in said and "overwrite" in said


@pytest.mark.parametrize("both", KINDS, indirect=True)
@pytest.mark.parametrize("way", HARMLESS)
def test_a_file_that_is_only_touched_from_outside_does_not(tmp_path, both, way):
    kind, names = both
    for name in names:
        prepared_while(HARMLESS[way], tmp_path, kind, name, overwrite=True)
    assert np.array_equal(read_ptyd(tmp_path / "raw" / "out.ptyd")["data"], FRAMES)


@pytest.mark.parametrize("policy", ["drop", "mask"])
@pytest.mark.parametrize("kind", ["npy", "hdf5", "eiger"])
@pytest.mark.parametrize("way", WAYS)
def test_frames_of_such_a_file_are_never_just_left_out(tmp_path, kind, way, policy):
    names = [file.relative_to(tmp_path / "raw") for file in written(tmp_path / "raw", kind)]
    written(tmp_path / "other", kind, FRAMES[::-1] + 1)
    with pytest.raises(ChangedError, match=str(names[-1])):
        prepared_while(WAYS[way], tmp_path, kind, names[-1], bad_frames=policy)
    assert not (tmp_path / "raw" / "out.ptyd").exists()


@pytest.mark.parametrize("save", ["append", "merge", "link", "virtual"])
def test_the_output_of_each_mode_is_never_finished(tmp_path, save):
    written(tmp_path / "raw", "npy")
    other, = written(tmp_path / "other", "npy", FRAMES + 1)
    other.touch()
    with pytest.raises(ChangedError):
        prepared_while(rename, tmp_path, "npy", "s.npy", save=save)
    with pytest.raises(OutputError, match="it would not be the same scan: source .*s.npy"):
        made(tmp_path / "raw", "npy", save=save, resume=True).initialize()
    made(tmp_path / "raw", "npy", save=save, overwrite=True).initialize().prepare()
    assert np.array_equal(read_ptyd(tmp_path / "raw" / "out.ptyd")["data"], FRAMES + 1)


def test_whoever_asks_again_hears_it_again(tmp_path):
    raw, = written(tmp_path, "npy")
    scan = made(tmp_path, "npy").initialize()
    for _ in range(3):
        scan.auto(4)
    raw.touch()
    for _ in range(2):
        with pytest.raises(ChangedError, match="s.npy: it was written at"):
            scan.auto(4)
        with pytest.raises(ChangedError, match="s.npy: it was written at"):
            scan.prepare()
    assert not (tmp_path / "out.ptyd").exists()


@pytest.mark.parametrize("parameter, name", [("positions.file", "p.txt"), ("mask.file", "mask.npy"),
                                             ("darkfield.file", "dark.npy"), ("darkfield.file", "darks.npy"),
                                             ("flatfield.file", "flat.h5"), ("normalisation.file", "i0.csv"),
                                             ("framefilter.file", "filter.npy")])
@pytest.mark.parametrize("way", [rename, rewrite, cut])
def test_files_beside_the_frames_count_too(tmp_path, parameter, name, way):
    written(tmp_path / "raw", "npy")
    for place, more in ((tmp_path / "raw", 0), (tmp_path / "other", 1)):
        place.mkdir(exist_ok=True)
        arrays = {"mask.npy": np.ones((16, 20), "u1"), "dark.npy": np.full((16, 20), more, "u1"),
                  "darks.npy": np.full((12, 16, 20), more, "u1"), "filter.npy": np.ones(12)}
        write_positions(place / "p.txt", POSITIONS + more * 1e-6)
        (place / "i0.csv").write_text("i0\n" + "\n".join(["1.5", "2.5"] * 6) + "\n")
        with h5py.File(place / "flat.h5", "w") as file:
            file["flat"] = np.ones((12, 16, 20)) + more
        for file, array in arrays.items():
            np.save(place / file, array)
        for file in (*arrays, "p.txt", "i0.csv", "flat.h5"):
            os.utime(place / file, (1e9, 1e9))
    more = {parameter: tmp_path / "raw" / name}
    if parameter == "positions.file":
        more["positions_theory"] = None
    with pytest.raises(ChangedError, match=name):
        prepared_while(way, tmp_path, "npy", name, **more)


class Live(PtyScan):
    """Frames of a file that is still written: two more at each look."""
    energy, distance, psize, center = Par(7.0), Par(2.0), Par(75e-6), Par("fftshift")
    file: Path = Par(doc="HDF5 file.", source=True)

    def open(self):
        return open_frames(self.p.file, "data")

    def load_positions(self):
        return POSITIONS

    def check(self, frames, start):
        self.came = min(getattr(self, "came", 0) + 2, 12)
        with h5py.File(self.p.file, "r+", locking=False) as file:
            file["data"][:self.came] = FRAMES[:self.came]
            file.require_group(f"log of {self.came} frames")        # it grows
        return min(frames, self.came - start), self.came == 12


def test_a_live_file_that_grows_goes_on(tmp_path):
    _growing(tmp_path / "s.h5")
    Live(file=tmp_path / "s.h5", dfile=tmp_path / "out.ptyd", frames_per_chunk=3).initialize().prepare()
    assert np.array_equal(read_ptyd(tmp_path / "out.ptyd")["data"], FRAMES)


def _growing(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", FRAMES.shape, FRAMES.dtype, chunks=(1, 16, 20), compression="gzip")


@pytest.mark.parametrize("way", ["rename", "cut", "remove"])
def test_a_live_file_that_is_another_one_stops(tmp_path, way):
    _growing(tmp_path / "s.h5")
    scan = Live(file=tmp_path / "s.h5", dfile=tmp_path / "out.ptyd", frames_per_chunk=3).initialize()

    def progress(_):
        if scan.frames_done == 3:
            (tmp_path / "other.h5").write_bytes((tmp_path / "s.h5").read_bytes())
            scan.came = 12          # it is not written any more
            scan.check = lambda frames, start: (min(frames, 12 - start), True)
            WAYS[way](tmp_path / "s.h5", tmp_path / "other.h5")
    with pytest.raises(SourceError, match="s.h5"):
        scan.prepare(progress=progress)


@pytest.mark.mpi
def test_on_ranks_all_of_them_stop_or_go_on(tmp_path):
    _growing(tmp_path / "s.h5")
    job = run_on_ranks(3, __file__, tmp_path, timeout=120)
    assert job.returncode == 0, job.stderr
    assert np.array_equal(read_ptyd(tmp_path / "out.ptyd")["data"], FRAMES)
    for case, name in ON_RANKS.items():
        heard = [(tmp_path / f"{case} {rank}.txt").read_text() for rank in range(3)]
        assert all(name in text and "since the scan first opened it" in text for text in heard), heard
        assert not (tmp_path / case / "raw" / "out.ptyd").exists()


def test_notes_are_of_the_scan_that_is_under_way_also_in_its_threads(tmp_path):
    files = [tmp_path / f"{i}.txt" for i in range(40)]
    for file in files:
        file.write_text("a")
    one, other = RawFiles(), RawFiles()
    one.may_grow = False
    with one.noting():
        in_threads(opening, files[:20], 4)
        with other.noting():
            in_threads(opening, files[20:], 4)
    in_threads(opening, files, 4)       # nobody's
    files[30].write_text("other")
    one.compare()
    other.compare()                     # it may grow
    other.may_grow = False
    with pytest.raises(ChangedError, match="30.txt: it had 1 bytes, and has 5"):
        other.compare()
    files[30].unlink()
    with pytest.raises(ChangedError, match="30.txt: it is gone"), other.noting():
        opening(files[30])


def test_a_spec_file_may_get_more_scans_but_is_not_written_again(tmp_path):
    files, file = RawFiles(), tmp_path / "session.spec"
    files.may_grow = False
    file.write_text("#S 1 ascan\n")
    with files.noting():
        opening(file, appended=True)
        with open(file, "a") as more:
            more.write("#S 2 ascan\n")
        opening(file, appended=True)
        file.write_text("#S 1\n")
        with pytest.raises(ChangedError, match="had 11 bytes, and has 5"):
            opening(file, appended=True)


def test_the_same_names_in_two_scans_are_two_things(tmp_path):
    for more in (0, 1):
        written(tmp_path / "raw", "npy", FRAMES + more)
        scan = made(tmp_path / "raw", "npy", overwrite=True).initialize()
        scan.prepare()
        assert np.array_equal(read_ptyd(tmp_path / "raw" / "out.ptyd")["data"], FRAMES + more)


ON_RANKS = {"rename eiger": "s_data_000003.h5", "rewrite eiger": "s_data_000001.h5", "rename images": "i_011.tif",
            "rewrite images": "i_000.tif", "rename npy": "s.npy", "rewrite gzip": "s.h5"}


def replace_on_ranks(folder):
    """Each of `ON_RANKS`; what a rank heard is in a text file of its own."""
    comm = room()
    for case, name in ON_RANKS.items():
        way, kind = case.split()
        (folder / case).mkdir(exist_ok=True)
        comm.from_root(lambda at=folder / case, kind=kind: [written(at / "raw", kind),
                                                            written(at / "other", kind, FRAMES[::-1] + 1)])
        try:
            prepared_while(WAYS[way], folder / case, kind, name)
        except (SourceError, PeerError) as err:
            (folder / f"{case} {comm.rank}.txt").write_text(str(err))


if __name__ == "__main__":
    replace_on_ranks(Path(sys.argv[1]))
    Live(file=f"{sys.argv[1]}/s.h5", dfile=f"{sys.argv[1]}/out.ptyd", frames_per_chunk=3).initialize().prepare()
