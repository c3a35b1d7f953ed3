"""APS Velociprobe: DECTRIS master file, and the controller's table of readings for each trigger."""
import h5py
import numpy as np

from ptyprep.testing.files import write_dectris


def fly_scan(folder, scan):
    """Three readings of the encoder for each trigger, some before the first; stage turned by 60 degrees; the table
    where the beamline puts it."""
    master, table = _write(folder, scan, chi=60)
    y, x = np.rint(scan.positions / [-1e-9, 0.5e-9]).T        # cos 60 degrees
    rows = [[11, 3, 0, 0, 0, 5, 0, 0]] * 2              # before the first exposure
    rows += [[11, at[1] + dx, at[0], 1, 2, at[0] + dy, at[1], trigger] for trigger, at in enumerate(zip(y, x), 1)
             for dy, dx in ((-10, 20), (9, 33), (10, -20))]
    np.savetxt(table, rows, fmt="%d", delimiter=",", header="fly001")
    return {"file": str(master)}, scan


def laser_interferometer(folder, scan):
    """One reading for each trigger, counted from 0; y of the laser interferometer; a stage that is not turned."""
    master, table = _write(folder, scan, chi=0)
    y, x = np.rint(scan.positions / 1e-9).T
    np.savetxt(table, [[11, x, y, 1, 2, -3, 4, trigger] for trigger, (y, x) in enumerate(zip(y, x))], fmt="%d",
               delimiter=",")
    table = table.rename(folder / "other.csv")
    return {"file": str(master), "positions.file": str(table), "positions.slow_key": "2", "positions.flip_y": False,
            "positions.trigger_start": 0}, scan


def _write(folder, scan, chi):
    """Write the master and its data files, a line in each; (master, where the table belongs)."""
    master, table = folder / "ptycho/fly001/fly001_master.h5", folder / "positions/fly001_0.txt"
    master.parent.mkdir(parents=True)
    table.parent.mkdir()
    write_dectris(master, scan.frames, frames_per_file=scan.columns, links=scan.rows + 2, energy=scan.energy,
                  distance=scan.distance, psize=scan.psize, center=scan.center, pixel_mask=~scan.good,
                  triggers=scan.rows, description="Dectris Eiger 500K")
    with h5py.File(master, "a") as file:
        file["entry/sample/goniometer/chi"] = np.full(len(scan.frames), float(chi))
        file["entry/sample/goniometer/chi"].attrs["units"] = np.bytes_("degree")
    return master, table
