"""One image file for each frame, with the header that DECTRIS detectors write."""
from dataclasses import replace

from ptyprep.testing.files import write_positions
from ptyprep.units import HC


def cbf(folder, scan):
    """CBF of a PILATUS, numbered from 7 to 18: not in the order of the alphabet. Bad pixels hold -2."""
    from fabio.cbfimage import CbfImage
    (folder / "images").mkdir()
    header = (f"# Wavelength {HC / scan.energy!r} A\r\n# Detector_distance {scan.distance!r} m\r\n"
              f"# Pixel_size {scan.psize[1]!r} m x {scan.psize[0]!r} m\r\n"
              f"# Beam_xy ({scan.center[1]!r}, {scan.center[0]!r}) pixels\r\n")
    for number, frame in enumerate(scan.frames.astype("i4"), 7):
        frame[~scan.good] = -2
        CbfImage(data=frame, header={"_array_data.header_contents": header}).write(
            str(folder / "images" / f"scan2_{number}.cbf"))
    return {"files": str(folder / "images"),
            "positions.file": str(write_positions(folder / "p.txt", scan.positions))}, scan


def tiff(folder, scan):
    """TIFF, which says nothing."""
    from fabio.tifimage import TifImage
    (folder / "images").mkdir()
    for number, frame in enumerate(scan.frames):
        TifImage(data=frame).write(str(folder / "images" / f"{number:04d}.tif"))
    return {"files": str(folder / "images" / "*.tif"), **scan.geometry,
            "positions.file": str(write_positions(folder / "p.txt", scan.positions))}, replace(scan, good=None)
