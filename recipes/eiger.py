"""DECTRIS detectors: a master file of the file writer, positions beside it."""
from pathlib import Path

from ptyprep import FileScan, Par
from ptyprep.sources import DectrisMaster
from ptyprep.words.spelling import option


class Eiger(FileScan):
    """A scan with a DECTRIS detector (EIGER, EIGER2, PILATUS4, ARINA …): `…_master.h5` and its data files.

    Energy, distance, pixel size, beam centre and pixel mask come from the master where it records something
    possible. Layout: DECTRIS SIMPLON API reference (file writer) and NXmx.
    """
    source_type = DectrisMaster

    file: Path = Par(source=True, level=0, doc="Master file.")

    def open(self):
        return DectrisMaster(self.p.file)

    def needs(self):
        needs = super().needs()
        if self.source.electrons and self.p.electron_data is None:
            energy = "the energy" if self.p.energy is None else f"the energy in the file, {self.p.energy:g} keV,"
            needs.insert(0, ("electron_data", f"{option('electron_data', True)} ({self.source.description} counts "
                                              f"electrons: {energy} is then their kinetic energy)"))
        return needs
