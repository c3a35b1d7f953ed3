"""Arrays that a program hands over in memory, as Savu does: frames, positions and mask."""
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ptyprep import Par
from ptyprep.arrays import read_array
from ptyprep.errors import ParameterError, PositionError, SourceError
from ptyprep.filescan.outer import OuterScan
from ptyprep.processing.corrections import Corrections
from ptyprep.processing.positions import Points
from ptyprep.sources import ArrayFrames, NpyFile
from ptyprep.words.spelling import option

HANDED = ("data", "positions", "mask")


class Savu(OuterScan):
    """A scan of arrays in memory, from Savu or any other program: `Savu(data=frames, positions=yx, mask=good, ...)`.

    frames (n, h, w), or a raster (rows, columns, h, w), keep their kind of number. positions are (n, 2), (y, x) as they
    are, in metres unless positions.unit says otherwise. The mask is (h, w) or one for each frame, non-zero is good
    unless mask.invert. Each may have an axis more in front, where `outer_index` is given. The parameters of the groups
    can be given beside the arrays, as "positions.flip_y" or "mask.invert". On the command line `data`, positions.file
    and mask.file are .npy files. On several ranks each hands over all of them. Arrays that were handed over are not
    written to the output's info, and `resume` cannot tell whether the frames are still the same.

    Savu's own positions are (2, n), y first: hand over their transpose. Its plug-ins turned frames upside down
    (orientation 2) and took psize, distance and energy from their code; here they are parameters like any other.

    Layout: PtyPy (`experiment/savu.py`) for the three arrays, and Savu (`plugins/unregistered/ptychography` and
    `i13_loaders/i13_ptycho_loader.py`) for what is in them. Not tried on real data of this beamline.
    """
    source_type = None

    data: Path | None = Par(None, source=True, level=0, doc="Frames as a .npy file, (n, h, w) or (rows, columns, h, w);"
                                                            " in Python an array too.")

    def __init__(self, pars=None, /, *, comm=None, **keywords):
        self._handed = {}
        layers = [dict(layer) if isinstance(layer, Mapping) else layer for layer in (pars, keywords)]
        for layer in layers:
            for name in HANDED if isinstance(layer, dict) else ():
                if isinstance(layer.get(name), list | tuple) or hasattr(layer.get(name), "__array__"):
                    self._handed[name] = _numbers(name, layer.pop(name))
        super().__init__(layers[0], comm=comm, **layers[1])

    def open(self):
        path, array, outer = self.p.data, self._handed.get("data"), self.p.outer_index
        if (path is None) == (array is None):
            raise ParameterError("data: neither an array nor a .npy file was given, or both; expected one of them")
        whole = source = NpyFile(path) if array is None else ArrayFrames(array, "data")
        if outer is not None:
            if whole.grid is None or outer >= whole.grid[0]:
                raise SourceError(f"{path or 'data'}: {option('outer_index', outer)}, but frames have shape "
                                  f"{(*(whole.grid or whole.shape[:1]), *whole.shape[1:])}; expected (outer, n, h, w)")
            source = NpyFile(path, outer) if array is None else ArrayFrames(array[outer])
        source.outer_size = whole.grid and whole.grid[0]
        source.path = path or Path("data")
        if array is not None:
            source.notes = [f"data is an array in memory: {array.dtype} of shape {array.shape}"]
        return source

    def readings(self, path):
        p, array, where = self.p.positions, self._handed.get("positions"), "positions"
        if array is not None and p.file is not None:
            raise ParameterError(f"positions and {option('positions.file')} were both given: leave out one of them")
        if array is None:
            if p.file is None or p.file.suffix != ".npy" or p.slow_key or p.fast_key:
                return super().readings(path)
            array, _, where, _ = read_array(p.file, parameter="positions.file")
        n = self.source.shape[0]
        array = self.inner(array, lambda shape: shape[-1:] == (2,) and np.prod(shape) == 2 * n, where)
        if array.shape[-1:] != (2,) or array.ndim not in (2, 3) or array.ndim == 3 and array.size != 2 * n:
            raise PositionError(f"{where} of shape {array.shape} for {n} frames; expected (n, 2), (y, x)"
                                f"{': hand over the transpose' if array.shape[:1] == (2,) else ''}")
        return Points(*(axis.astype(float) * self.metres(multiplier, p.unit or "m", where)
                        for axis, multiplier in zip(array.reshape(-1, 2).T, (p.slow_multiplier, p.fast_multiplier))))

    def load_weight(self):
        known, mask = super().load_weight(), self._mask()
        if mask is None or mask.ndim > 2:
            return known
        if mask.shape != self.source.shape[1:]:
            raise SourceError(f"the mask has shape {mask.shape}, the frames {self.source.shape[1:]}: expected the same")
        bits = self._bad_bits()
        good = mask != 0 if bits is None else (mask.astype(np.int64) & bits) == 0
        return good if known is None else good & known

    def load_corrections(self):
        found, mask = super().load_corrections(), self._mask()
        if mask is None or mask.ndim == 2:
            return found
        if found and found.mask is not None:
            raise ParameterError(f"mask and {option('mask.file')} were both given, each with one for each frame: leave "
                                 "out one")
        return (found or Corrections()).also(mask=ArrayFrames(mask, "mask"), bad_bits=self._bad_bits())

    def _bad_bits(self):
        return -1 if self.p.mask.invert else self.p.mask.bits

    def _mask(self):
        """The mask that was handed over, (h, w) or one for each frame; None without."""
        mask, n = self._handed.get("mask"), self.source.shape[0]
        if mask is not None:
            mask = self.inner(mask, lambda shape: len(shape) == 2 or np.prod(shape[:-2]) == n, "mask")
        return mask[0] if mask is not None and mask.ndim == 3 and len(mask) == 1 else mask


def _numbers(name, value):
    try:
        array = np.asarray(value)
    except ValueError as err:
        raise ParameterError(f"{name} is no array of numbers ({err})") from err
    if array.dtype.kind not in "biuf":
        raise ParameterError(f"{name} is {array.dtype} of shape {array.shape}; expected real numbers")
    return array
