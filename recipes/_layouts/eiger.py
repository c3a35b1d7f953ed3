"""DECTRIS file writer: a master and data files, positions in a table."""
from ptyprep.testing.files import write_dectris, write_positions


def master(folder, scan):
    """Data files of five frames, all of the geometry in the master."""
    write_dectris(folder / "s_master.h5", scan.frames.astype("u4"), frames_per_file=5, energy=scan.energy,
                  distance=scan.distance, psize=scan.psize, center=scan.center, pixel_mask=~scan.good)
    return {"file": str(folder / "s_master.h5"),
            "positions.file": str(write_positions(folder / "p.txt", scan.positions))}, scan
