# %% [markdown]
# # 2 Your beamline
#
# A recipe says how your beamline stores a scan. It is a subclass of `PtyScan` that answers a few questions; region,
# centre, mask, ranks and output are taken care of. As a script, with matplotlib for its figure:
# `python tutorial/2_your_beamline.py`.

# %%
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import step_scan
from terminal import shell, work_folder

from ptyprep import recipe
from ptyprep.testing import check_recipe

work_folder()

# %% [markdown]
# ## The scan on disk
#
# A camera wrote one `.npy` file per frame. A text file has the readings of the sample stage, x and y in micrometres,
# and another one the geometry. The scan is simulated: the recipe `moonflower` gives frames and positions, and the
# lines below spoil them as the instrument would. The camera adds a dark frame. The *stage* moves the sample, so its
# readings are the negative of where the illumination falls on the object.

# %%
folder = Path("scan_0001")
folder.mkdir(exist_ok=True)
simulation = recipe("moonflower")(num_frames=40, energy="8 keV", distance="2 m", psize="75 um", photons=2e6, seed=3)
dark = np.random.default_rng(3).integers(90, 110, (128, 128)) + np.linspace(0, 60, 128).astype(int)
np.save(folder / "dark.npy", dark)

stage = []
for batch in simulation.initialize().batches():
    for number, frame, (y, x) in zip(batch.index, batch.data, batch.position):
        np.save(folder / f"frame_{number:04d}.npy", (frame + dark).astype(np.uint16))
        stage.append((0 - x * 1e6, 0 - y * 1e6))
np.savetxt(folder / "positions.txt", stage, fmt="%.4f")
(folder / "geometry.txt").write_text("energy    8 keV\ndistance  2 m\npsize     75 um\ncenter    64, 64\n")

print(", ".join(sorted(path.name for path in folder.iterdir())[:4]), "...")
shell("cat scan_0001/geometry.txt")
shell("head -3 scan_0001/positions.txt")

# %% [markdown]
# ## The recipe
#
# Everything that is special to this beamline is in one file, `step_scan.py`, which you may copy and change:
#
# ```{literalinclude} ../../tutorial/step_scan.py
# ```
#
# `StepScan` is all that is needed; `DarkStepScan` comes later. Line by line:
#
# **`path: Path = Par(doc=…)`** declares a parameter. It has no default, so it is required. It is the first path, so
# it is the SOURCE of the command line. Its value is `self.p.path`.
#
# **`load_geometry`** runs once. It returns what was recorded: any of `energy` [keV], `distance` [m], `psize` [m] and
# `center` (row, column) in raw pixels. Texts may carry units, as here. A value that the user gives wins over it. What
# nobody gives is an error, never a guess.
#
# **`load_positions`** runs once. It returns `(n, 2)` positions: **(y, x)**, in **metres**, of the **illumination on
# the object**. Hence three things happen in its last line. The columns are exchanged, because the table has x first.
# The factor 1e-6 makes metres of micrometres. The minus sign turns the motion of the sample into that of the
# illumination.
#
# **`load`** runs on every rank for its own share of the scan, and is never asked for nothing. It returns the whole
# raw frames of these scan points, `(n, h, w)`, in that order. Keep the detector's kind of number: the largest integer
# of its kind is known as the mark for overflow, and such pixels are masked in that frame.
#
# No hook has to know of ranks, chunks or output files.

# %% [markdown]
# ## From Python

# %%
scan = step_scan.StepScan(path="scan_0001", shape=96).initialize()
print(scan.total, "frames; energy", scan.p.energy, "keV,", scan.p.origin("energy"))
batch = next(scan.batches())
print("frames   ", batch.data.shape, batch.data.dtype)
print("mask     ", batch.weight.shape, batch.weight.dtype)
print("positions", batch.position.shape, "of", np.ptp(batch.position, axis=0) * 1e6, "um")

# %% [markdown]
# ## From the command line
#
# `file.py:Class` names the recipe. Nothing is to be installed or registered, and every parameter is an option here
# too.

# %%
shutil.copy(step_scan.__file__, ".")
shell("ptyprep prepare ./step_scan.py:StepScan scan_0001 --shape 96 -o scan_0001.ptyd --plan")
shell("ptyprep prepare ./step_scan.py:StepScan scan_0001 --shape 96 -o scan_0001.ptyd")

# %% [markdown]
# On many ranks it is the same command behind `mpirun -n 8`. The recipe does not change.

# %% [markdown]
# ## Correcting frames
#
# `DarkStepScan` adds two hooks. `load_common` runs once; what it returns is there on every rank as `self.common`.
# `correct` gets the frames of the region, their mask and `common`, in which arrays of the detector's size are cut to
# the same region. So the code is the same whether the region is 96 pixels wide or the whole detector. Counts minus a
# float are floats; where noise makes them negative, they stay so.

# %%
corrected = next(step_scan.DarkStepScan(path="scan_0001", shape=96).initialize().batches())
figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for axes, frames, title in ((panels[0], batch.data, "as recorded"), (panels[1], corrected.data, "less the dark frame")):
    image = axes.imshow(frames.mean(axis=0).clip(1), norm="log", vmin=1, vmax=3e3, interpolation="nearest")
    axes.set_title(f"{title}: mean of {len(frames)} frames")
figure.colorbar(image, label="counts")
figure.savefig("corrected.png", dpi=110)

# %% [markdown]
# ## Are the signs right?
#
# The scan alone does not tell. With one sign wrong the reconstruction fails, which is seen at once. With both wrong
# it is as sharp as the right one, but turned by 180 degrees and complex conjugate. So try the recipe on something you
# know. Here we know where the illumination was.

# %%
truth = np.concatenate([b.position for b in recipe("moonflower")(simulation.p.changed()).initialize().batches()])
print(f"largest difference: {np.abs(corrected.position - truth).max() * 1e9:.2f} nm")

# %% [markdown]
# ## Does the recipe keep the contract?
#
# `check_recipe` prepares a small scan in every way that could go wrong: frames asked for in another order, a region
# cut early or late, other chunks, both kinds of file, several ranks. It returns what it has checked, or raises an
# error that lists all that is broken. Put it into a test beside your recipe.

# %%
for rule in check_recipe(step_scan.DarkStepScan, path="scan_0001"):
    print("ok:", rule)

# %% [markdown]
# ## Where to go on
#
# - All hooks in a table, and what belongs in a recipe: [Where does my code go?](../where_does_my_code_go.md)
# - Signs, units, orientation: [Conventions](../conventions.md).
# - Frames in one HDF5 stack need no `load`: `def open(self): return open_frames(self.p.file, key="entry/frames")`.
