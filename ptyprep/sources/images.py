"""Frames that are image files, one for each: CBF, EDF, TIFF and what else fabio reads."""
import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from ptyprep.errors import SourceError
from ptyprep.filesystem.order import matching, with_gaps
from ptyprep.filesystem.raw_files import opening
from ptyprep.hdf5.files import Found
from ptyprep.sources.blocks import InBlocks
from ptyprep.sources.formats import PILATUS, PLAIN, largest_count
from ptyprep.sources.recorded import read_quantity, record_size
from ptyprep.units import photon_energy

SUFFIXES = (".cbf", ".edf", ".tif", ".tiff", ".img", ".mccd", ".spe")


class ImageFiles(InBlocks):
    """Image files in the order of the numbers in their names; or one file with several images.

    files : a path or several. Where the number that tells their names apart leaves one out, that frame is missing, and
        none after it moves
    """
    format = PLAIN
    mask = saturation = grid = None

    def __init__(self, files):
        files = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
        if not files:
            raise SourceError("no image files; expected some")
        self.recorded, self.notes = {}, []
        self._files = with_gaps(files, self.notes)
        self.path = files[0].parent if len(files) > 1 else files[0]
        first = next(file for file in self._files if file is not None)
        odd = next((file for file in files if file.suffix.lower() not in SUFFIXES), None)
        if odd is not None:
            raise SourceError(f"{odd}: not an image by its name; expected one that ends with {', '.join(SUFFIXES)}")
        with _opened(first) as image:
            frame, inside = _data(first, image), image.nframes
            self._read_header(image)
        if frame.ndim != 2 or frame.dtype.kind not in "biuf":
            raise SourceError(f"{first}: an image of {frame.dtype} {frame.shape}; expected real numbers (h, w)")
        if inside > 1 and len(files) > 1:
            raise SourceError(f"{first}: {inside} images in one of {len(files)} files; expected one in each")
        self._inside = inside > 1
        self.shape = (inside if self._inside else len(self._files), *frame.shape)
        self.dtype = frame.dtype.newbyteorder("=")

    @classmethod
    def understands(cls, path):
        return Path(path).suffix.lower() in SUFFIXES

    @classmethod
    def matching(cls, pattern):
        """The images of a folder, a file, or those whose names match a pattern; see `filesystem.order.matching`.

        Raises SourceError where there is none.
        """
        pattern, files = Path(pattern), matching(pattern)
        if pattern.is_dir():
            kinds = {}
            for file in files:
                if file.suffix.lower() in SUFFIXES:
                    kinds.setdefault(file.suffix.lower(), []).append(file)
            if len(kinds) > 1:
                raise SourceError(f"{pattern}: images of several kinds, "
                                  f"{', '.join(f'{len(files)} {kind}' for kind, files in kinds.items())}: give a "
                                  f"pattern, such as '{pattern}/*{next(iter(kinds))}'")
            files = next(iter(kinds.values()), [])
        if not files:
            raise SourceError(f"{pattern}: no image there; expected a folder, one file, or a pattern such as "
                              f"'scan_*.cbf'")
        return cls(files)

    @property
    def files(self):
        return [file for file in self._files if file is not None]

    @property
    def missing(self):
        gaps = [i for i, file in enumerate(self._files) if file is None]
        before = [next(file for file in reversed(self._files[:i]) if file is not None) for i in gaps]
        return [(range(i, i + 1), f"no image between {file.name} and the next: frame {i} is missing")
                for i, file in zip(gaps, before)]

    @contextmanager
    def reader(self, window=None):
        """What reads frames, in any thread: fill(indices, out); see `Hdf5Stack.reader`."""
        yield partial(self._fill, window)

    def _fill(self, window, indices, out):
        for place, index in enumerate(indices):
            file = self._files[0 if self._inside else index]
            if file is None:
                raise SourceError(dict((frames.start, why) for frames, why in self.missing)[index])
            with _opened(file) as image:
                frame = _data(file, image, int(index) if self._inside else None)
            if frame.shape != self.shape[1:] or not np.can_cast(frame.dtype, self.dtype, "safe"):
                raise SourceError(f"{file}: an image of {frame.dtype} {frame.shape}, those before are of {self.dtype} "
                                  f"{self.shape[1:]}")
            out[place] = frame if window is None else window.cut(frame)

    def progress(self):
        return self.shape[0], True

    def close(self):
        pass        # files are open while they are read, not longer

    def road(self):
        """How frames are read: a few words for a plan."""
        return "image files, whole, through fabio"

    def _read_header(self, image):
        """Geometry and limits of counts as DECTRIS detectors write them into CBF and TIFF headers."""
        text = "\n".join(str(image.header.get(key, "")) for key in ("_array_data.header_contents", "imageDescription"))
        found = pilatus_header(text, self.notes)
        if not found:
            return
        self.format = PILATUS
        psize, center = (found.get(name, [None, None])[::-1] for name in ("Pixel_size", "Beam_xy"))     # x before y
        record_size(self, *found.get("Detector_distance", [None]), psize, center)
        if wavelength := read_quantity(self, "wavelength", *found.get("Wavelength", [None])):
            self.recorded["energy"] = photon_energy(wavelength[0])
        cutoff, = found.get("Count_cutoff", [None])
        if cutoff and cutoff.value > 0:
            self.saturation = largest_count(cutoff.value, self.format.saturated)


#: Which words of a line in a PILATUS header are a value and its unit ("PILATUS CBF Header Specification", DECTRIS); the
#: name is word 0, and brackets, commas, colons and = separate words, too.
PILATUS_WORDS = {"Wavelength": [(1, 2)], "Detector_distance": [(1, 2)], "Pixel_size": [(1, 2), (4, 5)],
                 "Beam_xy": [(1, 3), (2, 3)], "Count_cutoff": [(1, 2)]}


def pilatus_header(text, notes):
    """{name: [`Found`, ...]} of the lines that are known; of one that is not as it should be a note.

    >>> pilatus_header("# Detector_distance 200.00 mm", [])["Detector_distance"][0][:2]
    (200.0, 'mm')
    """
    lines = [re.split(r"[\s:=,()]+", line.strip()) for line in re.split(r"[\r\n#]+", text)]
    found = {}
    for words in lines:
        places = PILATUS_WORDS.get(words[0], [])
        try:
            values = [Found(float(words[value]), "".join(words[unit:unit + 1]), f"header: {words[0]}")
                      for value, unit in places]
        except (ValueError, IndexError):
            notes.append(f"header line {' '.join(words)!r} is not as PILATUS headers have it, and is not read")
            continue
        if values:
            found[words[0]] = values
    return found


@contextmanager
def _opened(file):
    try:
        import fabio
    except ImportError as err:
        raise SourceError(f"{file}: images need fabio; pip install 'ptyprep[images]'") from err
    if not file.is_file():
        raise SourceError(f"{file}: no such file")
    opening(file)
    try:
        image = fabio.open(str(file))
    except Exception as err:        # noqa: BLE001  fabio raises whatever a damaged file makes it stumble over
        raise SourceError(f"{file}: cannot be read as an image ({type(err).__name__}: {err})") from err
    try:
        yield image
    finally:
        image.close()


def _data(file, image, index=None):
    """The counts of an open image, or of one of several in it."""
    try:
        return np.asarray(image.data if index is None else image.getframe(index).data)
    except Exception as err:        # noqa: BLE001  fabio raises whatever a damaged file makes it stumble over
        raise SourceError(f"{file}: image {index or 0} cannot be read ({type(err).__name__}: {err})") from err

