"""Reconstruct a .ptyd with PtyPy's own difference map: reconstruct.py FILE.ptyd OUT.npz [--iterations N].

For any interpreter that has PtyPy 0.9; needs nothing of ptyprep. Stores object, probe, object pixel (psize) and,
for each frame, its index, position and the object pixel at the corner of its view.
"""

import argparse
import tempfile

import h5py
import numpy as np
import ptypy.core
import ptypy.utils

# The first guess of the probe, crude on purpose: a round lens without aberrations, out of focus.
LENS_TO_FOCUS = 0.1     # m
LENS = 1 / 3            # diameter of its shadow, as a fraction of the detector
WIDTH = 0.4             # of the probe on the sample, as a fraction of the window


def settings(path, iterations, home):
    """PtyPy's parameters for a plain reconstruction: no plots, no server, nothing saved."""
    with h5py.File(path, "r") as file:
        side, psize, distance, energy = (np.ravel(file["meta"][key])[0]
                                         for key in ("shape", "psize", "distance", "energy"))
    opening = LENS * side * psize / distance             # rad, full
    window = 12.4e-10 / energy * distance / psize        # m
    wish = ptypy.utils.Param()
    wish.update({
        "verbose_level": "ERROR",
        "io": {"home": home, "autosave": {"active": False}, "autoplot": {"active": False},
               "interaction": {"active": False}},
        "scans": {"scan": {
            "name": "BlockFull",
            "data": {"name": "PtydScan", "source": "file", "dfile": path},
            "illumination": {
                "aperture": {"form": "circ", "size": opening * LENS_TO_FOCUS},
                # Upstream of the focus. The mirrored guess leads to the conjugate object and fits mirrored frames.
                "propagation": {"focussed": LENS_TO_FOCUS, "parallel": -WIDTH * window / opening},
            },
        }},
        "engines": {"dm": {"name": "DM", "numiter": iterations}},
    }, Convert=True)
    return wish


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("out")
    parser.add_argument("--iterations", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        ptycho = ptypy.core.Ptycho(settings(args.file, args.iterations, home), level=5)
    (object,), (probe,) = ptycho.obj.S.values(), ptycho.probe.S.values()
    pods = sorted(ptycho.pods.values(), key=lambda pod: pod.di_view.layer)
    np.savez(args.out, object=object.data[0], probe=probe.data[0], psize=object.psize,
             index=[pod.di_view.layer for pod in pods],
             position=[pod.ob_view.coord for pod in pods],
             corner=[pod.ob_view.dlow for pod in pods])


if __name__ == "__main__":
    main()
