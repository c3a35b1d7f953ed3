# %% [markdown]
# # 1 A first conversion
#
# From the files that a DECTRIS detector leaves to a `.ptyd` that PtyPy reads. The scan is simulated, but its files
# are laid out as the detector's file writer does it. The page is a script: `python tutorial/1_first_conversion.py`
# does everything that is shown here, in a few seconds. For its figures it needs matplotlib, which ptyprep does not:
# `python -m pip install matplotlib`.

# %%
import h5py
import matplotlib.pyplot as plt
import numpy as np
from simulated_scan import simulate
from terminal import shell, work_folder

from ptyprep import open_frames, recipe

work_folder()

# %% [markdown]
# ## The raw scan
#
# 100 frames: a master file, three data files that it links to, and a text table with a position for each frame.

# %%
simulate(".")
shell("ls -1")
shell("head -3 positions.txt")

# %% [markdown]
# `ptyprep show` says what a file holds: the geometry that was recorded, the number of masked pixels, what is missing.

# %%
shell("ptyprep show scan_master.h5")

# %% [markdown]
# ## The plan
#
# The recipe for this detector is `eiger` (`ptyprep recipes` lists all). Every parameter is an option. With `--plan`
# nothing is prepared: ptyprep says what it would do, and what it lacks. Here it lacks the positions, which such a
# master does not hold. Nothing physical is ever guessed.

# %%
shell("ptyprep prepare eiger scan_master.h5 --shape 128 --plan", code=1)

# %% [markdown]
# `positions.txt` names its columns and their unit, so that the file alone is enough. Behind each value stands where
# it came from: `detector` is what the master recorded.

# %%
shell("ptyprep prepare eiger scan_master.h5 --positions.file positions.txt --shape 128 --plan")

# %% [markdown]
# The same from Python. A recipe is a class, and a scan is made with parameters of the same names; those in a group
# are written with a dot, in a dictionary. `initialize` decides everything and leaves the decision in `scan.plan`.

# %%
parameters = {"file": "scan_master.h5", "positions.file": "positions.txt", "shape": 128}
scan = recipe("eiger")(parameters).initialize()
print("centre (row, column):", scan.plan.center)
print("rows to read:        ", scan.plan.window.rows)
print("columns to read:     ", scan.plan.window.cols)

# %% [markdown]
# Is it the right region? The mean of all frames answers. Masked pixels are white: the gap between the modules, which
# reaches into the region, a hot pixel above the centre and a dead one below.

# %%
raw = open_frames("scan_master.h5")
mean = np.mean(raw.read(range(raw.shape[0])), axis=0)
row, column = scan.plan.center
rows, columns = scan.plan.window

def show(axes, frame, good, **options):
    """Counts on a logarithmic scale, masked pixels white."""
    return axes.imshow(np.ma.array(np.log10(1.0 + frame), mask=~good), interpolation="nearest", **options)

figure, (whole, part) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
show(whole, mean, raw.mask)
whole.add_patch(plt.Rectangle((columns.start - 0.5, rows.start - 0.5), 128, 128, fill=False, color="red"))
whole.set(title="mean raw frame, and the region", xlabel="raw column", ylabel="raw row")
edges = (columns.start - 0.5, columns.stop - 0.5, rows.stop - 0.5, rows.start - 0.5)
image = show(part, mean[rows, columns], raw.mask[rows, columns], extent=edges)
part.plot(column, row, "r+", markersize=14)
part.set(title="the region, and the centre (+)", xlabel="raw column", ylabel="raw row")
figure.colorbar(image, label="log10(1 + counts)")
figure.savefig("region.png", dpi=110)

# %% [markdown]
# The centre is the one that the detector recorded. Another can be given (`--center 466,582`), or found from the
# frames with `--auto_center`: the point about which the shape of the light mirrors itself, with its uncertainty. This
# beam is brighter towards the upper left, so the point about which its light balances lies several pixels off. Its
# edge is soft too, so the uncertainty is more than a pixel.

# %%
found = recipe("eiger")(parameters, auto_center=True).initialize()
print(f"recorded ({row:.1f}, {column:.1f}), found", *(
    f"{at:.1f} ± {error:.1f}" for at, error in zip(found.plan.center, found.center_uncertainty)))

# %% [markdown]
# ## Preparing
#
# The same command without `--plan`, and with the name of the file to write.

# %%
shell("ptyprep prepare eiger scan_master.h5 --positions.file positions.txt --shape 128 -o scan.ptyd")

# %% [markdown]
# An output that exists is never overwritten unasked.

# %%
shell("ptyprep prepare eiger scan_master.h5 --positions.file positions.txt --shape 128 -o scan.ptyd", code=1)

# %% [markdown]
# In Python: the file is the parameter `dfile`, and the batches are yours while they pass. Without `dfile` nothing is
# written, and the batches feed whatever you like.

# %%
scan = recipe("eiger")(parameters, dfile="scan_from_python.ptyd", frames_per_chunk=40).initialize()
for batch in scan.batches():
    print(f"chunk {batch.chunk}: {len(batch)} frames {batch.data.shape[1:]} {batch.data.dtype}, "
          f"mean of {batch.data[batch.weight].mean():.0f} counts in good pixels")

# %% [markdown]
# ## What is in the file
#
# A `.ptyd` is HDF5, compressed with filters that every HDF5 library has. [The `.ptyd` file](../ptyd.md) describes all
# of it.

# %%
with h5py.File("scan.ptyd") as file:
    for name in ("energy", "distance", "psize", "shape", "center", "num_frames"):
        print(f"{name:10}", file["meta"][name][()])
    chunk = file["chunks/0"]
    frames, positions = chunk["data"][()], chunk["positions"][()]
    mask = file["meta/weight2d"][()]
print("frames    ", frames.shape, frames.dtype)
print("mask      ", mask.shape, f"{(~mask).sum()} pixels to ignore")

# %% [markdown]
# Positions are those of the illumination on the object, (y, x) in metres. The circle is about as wide as the
# illumination, so that its overlap with the neighbours can be judged.

# %%
pixel = 12.398e-10 / 8 * 2 / (128 * 75e-6)          # of the object: wavelength x distance / (N x psize) [m]
y, x = positions.T * 1e6
figure, axes = plt.subplots(figsize=(5, 4.6), layout="constrained")
axes.plot(x, y, "-", color="0.8")
axes.scatter(x, y, c=np.arange(len(x)), s=12)
axes.add_patch(plt.Circle((0, 0), 0.4 * 128 * pixel / 2 * 1e6, fill=False, color="red"))
axes.set(xlabel="x [um]", ylabel="y [um]", aspect="equal", title="positions, in the order of the scan")
axes.invert_yaxis()         # y runs down, as the rows of the detector do
figure.savefig("positions.png", dpi=110)

# %% [markdown]
# Three frames, the mask and the mean. The beam lies on pixel (64, 64), which is `N // 2`.

# %%
figure, panels = plt.subplots(1, 5, figsize=(13, 3), layout="constrained")
for axes, number in zip(panels, (0, 40, 99)):
    show(axes, frames[number], mask, vmin=0, vmax=3.5)
    axes.set_title(f"frame {number}")
show(panels[3], frames.mean(axis=0), mask, vmin=0, vmax=3.5)
panels[3].plot(64, 64, "r+", markersize=12)
panels[3].set_title("mean, and pixel (64, 64)")
panels[4].imshow(mask, cmap="gray", vmin=-0.5, vmax=1, interpolation="nearest")
panels[4].set_title("mask: white is good")
figure.savefig("prepared.png", dpi=110)

# %% [markdown]
# ## Reconstructing
#
# PtyPy reads the file with its `PtydScan`. Its parameters of the data are these three, because region, centre, mask
# and geometry are settled:
#
# ```text
# p.scans.scan.data.name = "PtydScan"
# p.scans.scan.data.source = "file"
# p.scans.scan.data.dfile = "scan.ptyd"
# ```
#
# ## Where to go on
#
# - All parameters with their units and limits: `ptyprep params eiger`, or [the reference](../reference/index.md).
# - A file of your favourite parameters: `ptyprep params eiger --toml > mine.toml`, then `--config mine.toml`.
# - Frames that are turned, and positions that run the wrong way: [Conventions](../conventions.md).
# - A beamline of your own: [the next tutorial](2_your_beamline.md).
