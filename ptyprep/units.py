"""Units as files and users spell them: one place for every quantity that is read; and photons."""
import functools
import re
import tokenize
import unicodedata

from ptyprep.words.spelling import option

HC = 12.398419843320026     # keV angstrom, exact (SI 2019)
KEV = 1.602176634e-16       # J, exact (SI 2019)
ELECTRON = 510.99895069     # keV, m c² (CODATA 2022)

_PREFIXES = {"": 1.0, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12}

#: The spellings of detectors and beamlines, in lower case; pint has the others. It reads A as ampere, and no "kev".
SPELLINGS = {
    "m": {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "μm": 1e-6, "nm": 1e-9, "pm": 1e-12,
          "micron": 1e-6, "microns": 1e-6, "a": 1e-10, "å": 1e-10, "ang": 1e-10, "angstrom": 1e-10,
          "angstroms": 1e-10, "ångström": 1e-10, "ångstrom": 1e-10, "angström": 1e-10,
          **{f"{prefix}{metre}": factor for prefix, factor in _PREFIXES.items()
             for metre in ("meter", "meters", "metre", "metres")}},
    "keV": {"ev": 1e-3, "kev": 1.0, "gev": 1e6, "j": 1 / KEV, "joule": 1 / KEV, "joules": 1 / KEV,
            "electronvolt": 1e-3, "electronvolts": 1e-3, "kiloelectronvolt": 1.0},      # mev is meV or MeV: pint's
    "deg": {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0, "rad": 57.29577951308232, "radian": 57.29577951308232,
            "radians": 57.29577951308232, "mrad": 0.05729577951308232},
    "pixel": {"pixel": 1.0, "pixels": 1.0, "px": 1.0, "pix": 1.0},
}

#: What pint takes for lengths, and nobody at a beamline means so: a typographer's point, an astronomical unit.
ODD = {"point", "th", "au", "hand", "rod", "chain", "link", "mil", "ft", "pt", "pica", "em", "dot", "pole", "perch"}

EXAMPLES = {"energy": "7200 eV", "distance": "2.1 m", "psize": "75 um"}

#: Of each quantity that a detector records: (its unit here, the smallest and the largest that can be). Below lie marks
#: for "not set"; above lies what another unit makes of it. 100 m is longer than any beamline's flight tube.
QUANTITIES = {"energy": ("keV", 1e-4, 5000.0), "wavelength": ("m", 1e-13, 1e-4), "distance": ("m", 1e-5, 100.0),
              "psize": ("m", 1e-9, 1e-2)}


def factor(unit, to="m"):
    """How many `to` one `unit` is; None where `unit` is unknown, or a unit of something else.

    unit : as a file or a user spells it

    >>> factor("um"), factor("micron"), factor("kev", "keV"), factor("A"), factor("eV", "m")
    (1e-06, 1e-06, 1.0, 1e-10, None)
    """
    spelt = _bare(unit)
    if spelt == _bare(to):
        return 1.0
    known = {kind: names[spelt.lower()] for kind, names in SPELLINGS.items() if spelt.lower() in names}
    if known or spelt in ODD:
        return known.get(to)
    return _by_pint(spelt, to)


def _bare(unit):
    """A unit without brackets and blanks, with one sign for µ and one for Å."""
    spelt = unicodedata.normalize("NFKC", unit).strip()
    return spelt[1:-1].strip() if spelt[:1] + spelt[-1:] in ("[]", "()") else spelt


def metres(word):
    """How many metres a word is, if it is one of the field's own units of length; else None. Not pint's: it takes rod,
    hand and chain for lengths.

    >>> metres("um"), metres("rod"), factor("rod") is None
    (1e-06, None, True)
    """
    return SPELLINGS["m"].get(_bare(word).lower())


def convert(value, unit, to):
    """A number in another unit, to 15 digits so that 75 um is 7.5e-05; None where `factor` is.

    >>> convert(75, "um", "m"), convert(8000, "eV", "keV")
    (7.5e-05, 8.0)
    """
    many = factor(unit, to)
    return many and (float(value) if many == 1 else float(f"{value * many:.15g}"))


def recorded(quantity, value, unit, usual, where):
    """(a quantity in its unit here, None), or (None, why it counts as not recorded).

    quantity : one of `QUANTITIES`; value : as a file has it
    unit : as the file spells it, "" where it has none; usual : what the format defines then, None where it defines none
    where : file and name, for the sentence

    >>> recorded("distance", 200.0, "mm", "m", "a.cbf: Detector_distance")
    (0.2, None)
    >>> recorded("distance", 513.8, "", None, "a.nxs")[1]
    "a.nxs = 513.8 has no unit and counts as not recorded; set distance, with its unit, such as distance='2.1 m'"
    """
    to, least, most = QUANTITIES[quantity]
    asks = "energy" if quantity == "wavelength" else quantity
    if not value > 0 or value == float("inf"):
        return None, f"{where} = {value:g} counts as not recorded"
    if not unit and usual is None:
        return None, (f"{where} = {value:g} has no unit and counts as not recorded; set "
                      f"{option(asks)}, with its unit, such as {option(asks, EXAMPLES[asks])}")
    found = convert(value, unit or usual, to)
    if found is None:
        return None, (f"{where} = {value:g} in {unit!r}, no unit of {_KINDS[to]}, counts as not recorded; set "
                      f"{option(asks)}")
    if not least <= found <= most:
        said = f"in {unit!r}" if unit else f"without a unit, which means {usual} there,"
        return None, (f"{where} = {value:g} {said} is impossible ({found:g} {to}) and counts as not recorded; set "
                      f"{option(asks)}")
    return found, None


def recorded_each(quantity, found, usual):
    """([values], [reasons]) of a quantity in several parts, such as (y, x); None for values where a part is not there,
    or counts as not recorded.

    found : (value, unit, where) each, or None where it is not there; quantity and usual as for `recorded`
    """
    if any(one is None for one in found):
        return None, []
    values, reasons = zip(*(recorded(quantity, value, unit, usual, where) for value, unit, where in found))
    return None if None in values else list(values), [reason for reason in reasons if reason]


_KINDS = {"m": "length", "keV": "energy", "deg": "angle", "pixel": "pixels"}


@functools.cache
def registry():
    """pint's units. It takes 0.2 s, and is seldom needed."""
    import pint
    return pint.UnitRegistry()


def _by_pint(unit, to):
    quantity = _parsed(unit) if to and to not in ("pixel", "frames") else None
    return None if quantity is None or not quantity.is_compatible_with(to) else float(quantity.m_as(to))


@functools.lru_cache(1000)
def _parsed(unit):
    """One of a unit as pint has it, None where pint does not know it."""
    # pint computes what it reads: 9**9**9 in a file's attribute would keep it busy for ever
    if not 0 < len(unit) < 40 or re.search(r"\d{3}|\*\*.*\*\*|\^.*\^|[\"'=]", unit):
        return None
    from pint.errors import PintError
    try:
        return registry().Quantity(1.0, unit)
    # pint's parser lets these out at "m/0", "m/", "m**m", "m 5" and "m{"
    except (PintError, ArithmeticError, AssertionError, AttributeError, TypeError, ValueError, tokenize.TokenError):
        return None


_DIMENSIONS = {"m": "a length", "eV": "an energy", "s": "a time", "rad": "an angle", "Hz": "a frequency",
               "kg": "a mass", "K": "a temperature", "A": "a current", "V": "a voltage", "m**2": "an area",
               "Pa": "a pressure", "1/m": "an inverse length", "m/s": "a speed", "J/m**2": "an energy per area"}


def dimension(unit):
    """What a unit measures, in words: "a length"; None for what is no unit.

    >>> dimension("mm"), dimension("kev"), dimension("parsnip")
    ('a length', 'an energy', None)
    """
    spelt = _bare(unit)
    size = _parsed(next((to for to in SPELLINGS if to != "pixel" and spelt.lower() in SPELLINGS[to]), spelt))
    if size is None:
        return None
    return next((word for unit_of, word in _DIMENSIONS.items()
                 if size.dimensionality == registry().Unit(unit_of).dimensionality), f"a quantity in {unit}")


def photon_energy(wavelength):
    """Energy [keV] of photons of a wavelength [m].

    >>> round(photon_energy(1e-10), 6)
    12.39842
    """
    return HC / (wavelength * 1e10)


def electron_energy(wavelength):
    """Kinetic energy [keV] of electrons of a wavelength [m], from λ = h / p.

    >>> round(electron_energy(1.9687e-12))
    300
    """
    return (photon_energy(wavelength)**2 + ELECTRON**2)**0.5 - ELECTRON


def photon_energy_of_electrons(energy):
    """Energy [keV] of the photon whose wavelength is that of electrons with kinetic energy `energy` [keV].

    E_photon = sqrt(E (E + 2 m c²)), from λ = h / p and p² c² = E² + 2 E m c².

    >>> round(photon_energy_of_electrons(300.0), 3)
    629.761
    """
    return float((energy * (energy + 2 * ELECTRON))**0.5)
