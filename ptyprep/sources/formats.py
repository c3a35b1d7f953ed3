"""What file formats define: units where a file has none, marks, saturation, flat fields; each with its source.

One line for each format, so that a rule of one is never a rule of another by accident.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ptyprep.processing.corrections import Limits

DECTRIS_BITS = 32       # no DECTRIS detector writes images of more bits; a container may have more


@dataclass(frozen=True)
class Format:
    """What a format defines.

    units : {quantity: unit} where a file has none; a quantity that is absent is then not known
    saturated : whether a count equal to the recorded limit is bad ("at"), or only a larger one ("above")
    marks : negative numbers that stand for bad pixels; other negative numbers are noise
    near : what becomes of the count 2**n - 2, next to the mark 2**n - 1: {bits: "mask" or "keep"}; bits that are absent
        do not have it
    flat : whether counts are multiplied by the format's flat field, or divided by it ("multiply", "divide"); None where
        the format does not say
    """
    name: str
    units: Mapping = field(default_factory=dict)
    saturated: str = "above"
    marks: tuple = ()
    near: Mapping = field(default_factory=dict)
    flat: str | None = None


#: SIMPLON API reference 1.8 (DECTRIS), "FileWriter" and "Detector configuration": lengths in m, photon_energy in eV,
#: wavelength in angstrom, beam_center in pixels; counts are multiplied by flatfield; 2**bit_depth_image - 1 marks what
#: could not be measured. dxtbx masks 2**n - 2 of its EIGER files too; the manual does not have it. In signed containers
#: the two are -1 and -2. NXmx on saturation_value: "data above this value is known to be invalid"; DECTRIS told dxtbx's
#: authors to take countrate_correction_count_cutoff for it in files before firmware 1.7 (dials/dials #113).
DECTRIS = Format("DECTRIS HDF5", {"energy": "eV", "wavelength": "angstrom", "distance": "m", "psize": "m",
                                  "center": "pixel"},
                 marks=(-1, -2), near={8: "keep", 16: "keep", 32: "mask"}, flat="multiply")

#: "PILATUS CBF Header Specification" (DECTRIS, 2011): each value is followed by its unit, as in the units here. The
#: detector clips to Count_cutoff, so that this count is as bad as a larger one (XDS, OVERLOAD); -1 marks gaps and -2
#: bad pixels.
PILATUS = Format("PILATUS CBF or TIFF", {"wavelength": "A", "distance": "m", "psize": "m", "center": "pixels"},
                 saturated="at", marks=(-1, -2))

#: NeXus definitions, NXdetector and NXmx: `units` is required for every quantity; saturation_value as above. How a flat
#: field is applied is not defined.
NEXUS = Format("NeXus")

#: The same of a detector by DECTRIS, by its bit_depth_image or its description: marks are the detector's.
NEXUS_DECTRIS = replace(DECTRIS, name="NeXus of a DECTRIS detector", units={})

#: "CXI file format" 1.6 (Maia, cxidb.org): SI units throughout.
CXI = Format("CXI", {"energy": "J", "wavelength": "m", "distance": "m", "psize": "m", "position": "m"})

#: Files and arrays that define nothing.
PLAIN = Format("plain")


def largest_count(limit, saturated):
    """The largest good count under a recorded limit.

    >>> largest_count(1000, "above"), largest_count(1000, "at") < 1000
    (1000, True)
    """
    return limit if saturated == "above" else float(np.nextafter(limit, -math.inf))


def limits_of(source, dtype, *, near=None, negative="keep"):
    """The `Limits` of a source's frames, by its format, its `saturation` and its `bits`.

    near : "mask" or "keep" of the count next to the mark; None: as the format has it
    negative : "mask" for no negative count
    """
    known, dtype = getattr(source, "format", PLAIN), np.dtype(dtype)
    most, at = getattr(source, "saturation", None), None
    if known.near and dtype.kind in "iuf":
        container = 8 * dtype.itemsize if dtype.kind in "iu" else DECTRIS_BITS
        bits = min(getattr(source, "bits", None) or DECTRIS_BITS, container)
        if bits in known.near and not (dtype.kind == "i" and bits == container):     # there they are the marks
            at = 2**bits - 2
            first_bad = at if (near or known.near[bits]) == "mask" else at + 1
            most = _lower(most, math.nextafter(first_bad, 0) if dtype.kind == "f" else first_bad - 1)
            if dtype.kind == "f" and float(dtype.type(at)) != at:       # float32: it is the mark there
                at = None
    elif known.marks and dtype == np.uint32:       # of signed numbers that were taken for unsigned ones
        most = _lower(most, 2**32 + min(known.marks) - 1)
    least = getattr(source, "underload", None)
    if negative == "mask":
        least = 0 if least is None else max(0, least)
    if most is not None and dtype.kind == "f" and float(dtype.type(most)) > most:
        # float32 has no 2**32 - 2
        most = float(np.nextafter(dtype.type(most), dtype.type(0)))
    return Limits(most, least, known.marks if dtype.kind in "if" else (), at)


def _lower(one, other):
    return other if one is None else min(one, other)
