"""Corrections: functions on stacks of frames, before they are cut to size."""
import numpy as np


def believable(frames, saturation=None, out=None):
    """Where the numbers are measurements: not a detector's mark, not saturated, not NaN or infinite.

    frames : (n, h, w); for unsigned and signed integers the largest value of their kind marks overflow,
        gaps and dead pixels (EIGER writes 2**32 - 1, and 2**16 - 1 in 16-bit mode; SIMPLON API reference). Counts
        cannot be negative: PILATUS marks gaps with -1 and bad pixels with -2 (CBF files)
    saturation : larger counts are not to be believed, or None
    out : where to put it, None for a new array

    Returns bool (n, h, w).
    """
    good = np.empty(frames.shape, bool) if out is None else out
    if frames.dtype.kind == "f":
        np.isfinite(frames, out=good)
    elif frames.dtype.kind in "iu":
        np.not_equal(frames, np.iinfo(frames.dtype).max, out=good)
        if frames.dtype.kind == "i":
            good &= frames >= 0
    else:
        good[...] = True
    if saturation is not None:
        good &= frames <= saturation
    return good


def photon_energy_of_electrons(energy):
    """Energy [keV] of the photon whose wavelength is that of electrons with kinetic energy `energy` [keV].

    E_photon = sqrt(E (E + 2 m c²)), from λ = h / p and p² c² = E² + 2 E m c²; m c² = 510.99895069 keV (CODATA 2022).

    >>> round(photon_energy_of_electrons(300.0), 3)
    629.761
    """
    return float(np.sqrt(energy * (energy + 2 * 510.99895069)))
