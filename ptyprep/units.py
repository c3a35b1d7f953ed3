"""Units of length as files spell them, and photons."""

HC = 12.398419843320026     # keV angstrom, exact (SI 2019)
KEV = 1.602176634e-16       # J, exact (SI 2019)

_PREFIXES = {"": 1.0, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12}
UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "nm": 1e-9, "pm": 1e-12,    # both mu
         "micron": 1e-6, "microns": 1e-6, "a": 1e-10, "å": 1e-10, "angstrom": 1e-10, "angstroms": 1e-10,
         **{f"{prefix}{metre}": factor for prefix, factor in _PREFIXES.items()
            for metre in ("meter", "meters", "metre", "metres")}}


def metres(unit):
    """How many metres a unit of length is, None for what is no unit of length.

    >>> metres("um"), metres("parsec")
    (1e-06, None)
    """
    return UNITS.get(unit.strip().lower())


def photon_energy(wavelength):
    """Energy [keV] of photons of a wavelength [m].

    >>> round(photon_energy(1e-10), 6)
    12.39842
    """
    return HC / (wavelength * 1e10)
