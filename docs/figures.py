"""Draw the figures of conventions.md with the code that they explain.

    python docs/figures.py [FOLDER]
"""
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ptyprep import FramePlan

F = np.array([[int(c) for c in line] for line in (
    "0000000", "0111110", "0100000", "0100000", "0111100", "0100000", "0100000", "0100000", "0000000")])
RED, GREY = "crimson", "0.6"


def orientations():
    """An F in all orientations; the red pixel is the first one of the raw frame."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    for orientation, axes in enumerate(figure.subplots(2, 4).flat):
        plan = FramePlan.make(F.shape, center="geometric", orientation=orientation)
        frame = plan.apply(F[None])[0]
        axes.imshow(frame, cmap="gray_r", vmax=1.6)
        y, x = np.argwhere(plan.apply(np.arange(F.size).reshape(1, *F.shape))[0] == 0)[0]
        axes.add_patch(matplotlib.patches.Rectangle((x - 0.5, y - 0.5), 1, 1, color=RED))
        flags = {"transpose": plan.transpose, "flip rows": plan.flipud, "flip columns": plan.fliplr}
        words = ", ".join(word for word, on in flags.items() if on)
        axes.set_title(f"{orientation}\n{words or 'as it is'}", fontsize=9)
        (h, w), half = frame.shape, max(F.shape) / 2
        axes.add_patch(matplotlib.patches.Rectangle((-0.5, -0.5), w, h, fill=False, ec=GREY))
        axes.set(xticks=[], yticks=[], xlim=(w / 2 - 1 - half, w / 2 + half), ylim=(h / 2 + half, h / 2 - 1 - half))
        axes.set_frame_on(False)
    return figure


def centre():
    """One axis of a raw frame, cut four ways about the same centre: which raw pixels become which prepared one."""
    size, c, n = 20, 9.7, 8
    cases = [(1, 0, "rebin 1"), (1, 1, "rebin 1, flipped"), (2, 0, "rebin 2"), (2, 1, "rebin 2, flipped")]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    for row, (rebin, flip, name) in enumerate(cases):
        plan = FramePlan.make((1, size), shape=(rebin, n * rebin) if rebin == 1 else (2, n * rebin), center=(0, c),
                              orientation=flip, rebin=rebin)
        where = plan.apply(np.broadcast_to(np.arange(size), (1, plan.window.shape[0], size))[..., plan.window.cols])
        where = where[0, 0] / plan.window.shape[0] / rebin                # mean raw column of each prepared pixel
        top = 2 * row
        for column in range(size):
            axes.add_patch(matplotlib.patches.Rectangle((column - 0.5, top), 1, 0.5, fc="0.95", ec=GREY))
            axes.text(column, top + 0.25, column, ha="center", va="center", fontsize=7, color=GREY)
        for number, middle in enumerate(where):
            ours = number == n // 2
            axes.add_patch(matplotlib.patches.Rectangle((middle - rebin / 2, top + 0.5), rebin, 0.6, ec="black",
                                                        fc="lightsalmon" if ours else "lightsteelblue"))
            axes.text(middle, top + 0.8, number, ha="center", va="center", fontsize=9)
        axes.text(-1, top + 0.55, f"{name}\naxis at {plan.axis[1]:.2f}", ha="right", va="center", fontsize=9)
    axes.plot([c, c], [-0.5, 2 * len(cases) - 0.5], color=RED, lw=1)
    axes.text(c, -0.6, f"optical axis, raw column {c}", ha="center", va="bottom", color=RED, fontsize=9)
    axes.set(xlim=(-4.5, size), ylim=(2 * len(cases) - 0.3, -1.2))
    axes.set_axis_off()
    return figure


def pixel():
    """One small frame on its way: the region, padding, rebinning, orientation, each with its mask."""
    rng = np.random.default_rng(4)
    y, x = np.indices((12, 12))
    frame = rng.poisson(40 * np.exp(-((y - 2.4) ** 2 + (x - 6.4) ** 2) / 14) + 1)
    good = np.ones(frame.shape, bool)
    good[:, 8] = False                      # a gap
    good[4, 4] = False                      # overflow in this frame
    about = {"shape": 8, "center": (2.4, 6.4)}
    region = FramePlan.make(frame.shape, **about)
    stages = [("padded region", region), ("rebin 2", FramePlan.make(frame.shape, **about, rebin=2)),
              ("orientation 4", FramePlan.make(frame.shape, **about, rebin=2, orientation=4))]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, 4)
    _numbers(panels[0], frame, good, "raw frame, region, centre")
    (top, _), (left, _) = region.padding
    first = region.window.rows.start - top, region.window.cols.start - left
    panels[0].add_patch(matplotlib.patches.Rectangle((first[1] - 0.5, first[0] - 0.5), 8, 8, fill=False, ec=RED, lw=1.5,
                                                     clip_on=False))
    panels[0].plot(6.4, 2.4, "+", color=RED, ms=10)
    panels[0].set_ylim(11.5, -2.6)
    for axes, (name, plan) in zip(panels[1:], stages):
        window = plan.window
        _numbers(axes, plan.apply(window.cut(frame)[None])[0], plan.apply_weight(window.cut(good)), name)
        y, x = (n // 2 for n in plan.shape)
        axes.add_patch(matplotlib.patches.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=RED, lw=1.5))
    return figure


def _numbers(axes, frame, good, title):
    """A frame with its counts written in; bad pixels grey."""
    axes.imshow(good, cmap=matplotlib.colors.ListedColormap([GREY]))
    axes.imshow(np.ma.array(frame, mask=~good), cmap="Blues", vmax=1.4 * frame.max())
    for (y, x), count in np.ndenumerate(frame):
        if good[y, x]:
            axes.text(x, y, count, ha="center", va="center", fontsize=5.5 if frame.shape[0] > 8 else 7)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    for side in axes.spines.values():
        side.set_visible(False)


def signs():
    """One scan point seen in the laboratory and on the object: the sample moves one way, the illumination the other."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, title, sample, beam in (
            (panels[0], "position (0, 0)", (0, 0), (0, 0)),
            (panels[1], "laboratory: the sample\nmoved by (-2, +2) um", (-2, 2), (0, 0)),
            (panels[2], "on the object:\nposition (+2, -2) um", (0, 0), (2, -2))):
        (y, x), (h, w) = sample, np.array(F.shape) / 2
        axes.imshow(F, cmap="gray_r", vmax=2.5, extent=(x - w, x + w, y + h, y - h))
        axes.add_patch(matplotlib.patches.Circle(beam[::-1], 1.2, fc="none", ec=RED, lw=2))
        axes.plot(*beam[::-1], "+", color=RED)
        axes.set(xlim=(-8, 7), ylim=(7.5, -7.5), xlabel="x [um]", ylabel="y [um]")
        axes.set_title(title, fontsize=10)
        axes.set_aspect("equal")
    return figure


def make(out):
    """Write all figures as .png files to the folder `out`."""
    out.mkdir(exist_ok=True)
    for draw in (orientations, centre, pixel, signs):
        draw().savefig(out / f"{draw.__name__}.png", dpi=110)


if __name__ == "__main__":
    make(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "figures"))
