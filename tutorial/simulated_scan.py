"""Write a small simulated scan as a DECTRIS EIGER2 1M does: master, data files, and positions.txt beside them.

    python tutorial/simulated_scan.py FOLDER [--frames N]

The detector is as real ones are: the beam is not in its middle, a gap of 38 rows lies between its two modules,
one pixel is hot and one is dead. All three are in the pixel mask of the master.
"""
import argparse
from pathlib import Path

import numpy as np
from ptyprep_recipes.moonflower import Moonflower

from ptyprep.testing import write_dectris, write_positions

DETECTOR = 1062, 1028           # (rows, columns) of an EIGER2 1M
GAP = slice(512, 550)           # rows between its modules, that hold no sensor
CENTER = 466, 582               # (row, column) of the beam
HOT, DEAD = (455, 601), (490, 560)
NO_SENSOR, IS_DEAD, IS_NOISY = 1, 2, 16     # bits of the pixel mask (SIMPLON API reference)
LIT = 192                       # side of the part of the detector that the pattern is computed for [pixel]


def simulate(folder, frames=100, seed=0):
    """Write the scan to a folder, which is made where it does not exist.

    frames : int
        Frames, one for each scan point.

    Returns paths of the master and of the positions.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    simulation = Moonflower(num_frames=frames, shape=LIT, energy="8 keV", distance="2 m", psize="75 um",
                            photons=2e6, seed=seed).initialize()
    detector = np.zeros((frames, *DETECTOR), np.uint16)
    top, left = (c - LIT // 2 for c in CENTER)
    positions = np.zeros((frames, 2))
    for batch in simulation.batches():
        detector[batch.index, top:top + LIT, left:left + LIT] = batch.data
        positions[batch.index] = batch.position
    mask = np.zeros(DETECTOR, np.uint32)
    mask[GAP], mask[HOT], mask[DEAD] = NO_SENSOR, IS_NOISY, IS_DEAD
    detector[:, HOT[0], HOT[1]] = 20_000
    detector[:, (mask & (NO_SENSOR | IS_DEAD)) > 0] = 2**16 - 1         # no measurement
    master = folder / "scan_master.h5"
    p = simulation.p
    write_dectris(master, detector, frames_per_file=40, energy=p.energy, distance=p.distance, psize=(p.psize, p.psize),
                  center=CENTER, pixel_mask=mask)
    return master, write_positions(folder / "positions.txt", positions, unit="um")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=100, metavar="N")
    said = parser.parse_args()
    for path in simulate(said.folder, said.frames):
        print(path)
