"""The files of a new recipe: they work as they are, and every line in them is one to change."""
import keyword
from pathlib import Path
from string import Template

from ptyprep.errors import OutputError, ParameterError
from ptyprep.registry import installed

RECIPE = Template('''\
"""$Class: say in one line which beamline, and what its scans are."""
from pathlib import Path

from ptyprep import FileScan, Par, open_frames
from ptyprep.arrays import read_array
from ptyprep.hdf5.files import reading, scalar


class $Class(FileScan):
    """A scan at $Class: frames and motors in one HDF5 file.

    The motors move the sample, so that the illumination moves the other way on the object: y = -motor y, x = -motor x.

    Layout: say here where it is described. Not tried on real data of this beamline.
    """
    file: Path = Par(source=True, level=0, doc="HDF5 file of the scan.")
    motors: tuple[str, str] = Par(("y", "x"), doc="Names of the motors, rows and columns.")

    def open(self):
        return open_frames(self.p.file, "entry/detector/data")

    def load_geometry(self):
        found = dict(super().load_geometry())
        with reading(self.p.file, "a scan of $Class") as file:
            energy = self.quantity("energy", scalar(file, "entry/energy"), usual="eV")      # where it has no unit
        if energy:
            found["energy"] = energy[0]         # keV
        return found

    def readings(self, path):
        given = super().readings(path)          # the user's positions.file and keys win
        if given is not None:
            return given
        motors = [read_array(path, f"entry/motors/{name}", parameter="motors") for name in self.p.motors]
        return tuple(-motor.values * self.metres(None, motor.units or "um", motor.where) for motor in motors)
''')

LAYOUT = Template('''\
"""A tiny scan in the layout of recipe $name."""
from dataclasses import replace

import h5py


def one_file(folder, scan):
    """Write a `ptyprep.testing.Tiny` into a folder: (parameters for the recipe, the scan as it was written)."""
    path = folder / "scan_0001.h5"
    with h5py.File(path, "w") as file:
        file["entry/detector/data"] = scan.frames
        file["entry/motors/y"], file["entry/motors/x"] = -1e6 * scan.positions.T
        file["entry/energy"] = scan.energy * 1e3
        file["entry/energy"].attrs["units"] = "eV"
    pars = {"file": str(path), "distance": scan.distance, "psize": scan.psize, "center": scan.center}
    return pars, replace(scan, good=None)       # this layout has no mask
''')

TEST = Template('''\
"""Recipe $name on a tiny scan in its layout: python -m pytest"""
from pathlib import Path

import layout_$name as layout
import numpy as np
import pytest

from ptyprep import recipe
from ptyprep.errors import SourceError
from ptyprep.testing import Tiny, check_layout

RECIPE = recipe(f"{Path(__file__).with_name('$name.py')}")


def test_the_layout_is_read_and_the_contract_kept():
    assert check_layout(RECIPE, layout.one_file)


def test_the_motors_move_the_sample(tmp_path):
    pars, tiny = layout.one_file(tmp_path, Tiny.make())
    batch = next(RECIPE(pars).initialize().batches(100))
    assert np.allclose(batch.position, tiny.positions)


def test_another_motor_is_named(tmp_path):
    pars, _ = layout.one_file(tmp_path, Tiny.make())
    with pytest.raises(SourceError, match="no dataset entry/motors/z"):
        RECIPE({**pars, "motors": ("z", "x")}).initialize()
''')

README = Template('''\
# $name

Prepare a scan:

    ptyprep prepare ./$name.py scan_0001.h5 --distance "2.1 m" --psize "75 um" --center 512,500 -o scan_0001.ptyd

All parameters: `ptyprep params ./$name.py`.

Test it: `python -m pip install pytest`, then `python -m pytest`. It is tested on three ranks, too, where there are an
`mpirun` and mpi4py: `python -m pip install 'ptyprep[mpi]'`.

To have it as `ptyprep prepare $name`, put it into a package of yours as `my_package/recipes/$name.py`, with this
`pyproject.toml` beside `my_package`, and install that: `python -m pip install .`

    [project]
    name = "my_package"
    version = "1.0"
    dependencies = ["ptyprep"]

    [project.entry-points."ptyprep.recipes"]
    mine = "my_package.recipes"
''')

FILES = {"{}.py": RECIPE, "layout_{}.py": LAYOUT, "test_{}.py": TEST, "README.md": README}


def write_skeleton(name, folder=None):
    """Write a recipe, a writer of a tiny scan in its layout, their tests and a README into a new folder.

    name : of the recipe, in lower case; folder : None for one of that name here

    Returns the paths. Raises ParameterError for what is no name, or is one of an installed recipe; OutputError where
    the folder exists.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise ParameterError(f"{name!r} cannot be the name of a recipe; expected a word in lower case, such as "
                             f"my_beamline")
    if name in installed():
        raise ParameterError(f"a recipe {name!r} is installed already ({installed()[name]}); choose another name")
    folder = Path(folder or name)
    try:
        folder.mkdir(parents=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be made ({err.strerror}); choose another folder") from err
    words = {"name": name, "Class": "".join(word.capitalize() for word in name.split("_"))}
    paths = []
    for file, text in FILES.items():
        paths.append(folder / file.format(name))
        paths[-1].write_text(text.substitute(words))
    return paths
