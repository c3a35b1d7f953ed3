"""What a dataset of frames consists of: pieces, each of them frames of a dataset in some file.

One dataset is one piece; a virtual dataset has one for each of its sources. So everything is read the same way, a
missing file is known before it is needed, and neither a virtual dataset nor a chunk that was never written answers with
zeros.
"""
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from ptyprep.errors import SourceError
from ptyprep.hdf5.chunk_index import depth_of
from ptyprep.hdf5.files import dataset_in, file_of_source, has_matlab_marks, one_answer
from ptyprep.hdf5.guarded import open_hdf5


@dataclass(frozen=True)
class Piece:
    """Part of a stack: frames `start`, `start + step` … of the stack are frames `first`, `first + 1` … of a dataset.

    rows, cols : where the piece lies in the frame, for detectors stored module by module
    missing : why it cannot be read, or None
    turned : whether the file has each frame transposed; row, col and shape are those of the frame as it is read
    """
    path: Path
    key: str
    start: int
    count: int
    first: int = 0
    step: int = 1
    block: int = 1          # so many frames in a row, then on to the next step
    row: int = 0
    col: int = 0
    shape: tuple = None     # (h, w) of the piece
    depth: int = 1          # frames in a chunk
    missing: str | None = None
    turned: bool = False

    def places(self, indices):
        """Which of the stack's frame numbers lie here, and where: (positions in `indices`, frames of the dataset)."""
        ahead = indices - self.start
        turn, inside = np.divmod(ahead, self.step)
        number = turn * self.block + inside
        here = (ahead >= 0) & (inside < self.block) & (number < self.count)
        return np.flatnonzero(here), self.first + number[here]

    @property
    def frames(self):
        """The frames of the stack that lie here, as the smallest range that holds them."""
        turns, rest = divmod(self.count - 1, self.block)
        return range(self.start, self.start + turns * self.step + rest + 1)


def frames_in(dataset):
    """(pieces, shape) of a dataset of frames, (h, w) last also where MATLAB wrote it, or the sources of a virtual one.

    Raises what `pieces_of` says.
    """
    pieces, (*lead, h, w) = _pieces(dataset), dataset.shape
    turned = has_matlab_marks(dataset)
    if dataset.is_virtual and not turned:
        turned = one_answer({piece.turned for piece in pieces if not piece.missing},
                             f"{dataset.file.filename}: {dataset.name}")
    if not turned:
        return pieces, dataset.shape
    return [replace(piece, row=piece.col, col=piece.row, shape=piece.shape[::-1], turned=True)
            for piece in pieces], (*lead, w, h)


def pieces_of(dataset, start=0):
    """The pieces of a dataset of frames as stored; a virtual one is taken apart into its sources, link by link.

    Raises SourceError for a virtual layout that does not keep whole rows of frames together.
    """
    return [replace(piece, turned=False) for piece in _pieces(dataset, start)]


def _pieces(dataset, start=0):
    """The same; `turned` where a virtual dataset's source has MATLAB's marks, though row, col and shape are not yet."""
    path, key = Path(dataset.file.filename), dataset.name
    if dataset.file.get(key) != dataset:    # reached by a soft link to an external one: the name is of the first file
        key = h5py.h5r.get_name(dataset.ref, dataset.file.id).decode()
    h, w = dataset.shape[-2:]
    if not dataset.is_virtual:
        return [Piece(path, key, start, dataset.size // (h * w), shape=(h, w), depth=depth_of(dataset))]
    if dataset.ndim not in (3, 4):
        raise SourceError(f"{path}: {key} is a virtual dataset of {dataset.ndim} dimensions; expected (n, h, w) or "
                          f"(rows, cols, h, w)")
    pieces = []
    for source in dataset.virtual_sources():
        name = file_of_source(dataset, source)
        target = _regular(source.vspace, dataset.shape)
        if dataset.ndim == 4 and target is not None:
            target = _flat(target, dataset.shape)
        if target is None or any(turns > 1 for _, _, turns, _ in target[1:]):
            raise SourceError(f"{path}: {key}: its part from {name} is not a regular block of frames; "
                              f"read {name} itself")
        (frame, step, turns, block), (row, _, _, high), (col, _, _, wide) = target
        piece = Piece(name, source.dset_name, start + frame, turns * block, 0, step, block, row, col, (high, wide))
        pieces.append(_checked(piece, source.src_space, f"{path}: {key}", dataset.within))
    return pieces


def _flat(axes, shape):
    """A block of a raster's rows and columns as one of frames: [(start, stride, count, block), ...] with an axis less;
    None where it is not evenly spaced."""
    (row, row_step, row_turns, row_block), (col, col_step, col_turns, col_block), *rest = axes
    width = shape[1]
    if row_turns > 1 and row_block > 1 or col_turns > 1 and col_block > 1:
        return None
    rows, columns = row_turns * row_block, col_turns * col_block
    row_step, col_step = (row_step if row_turns > 1 else 1) * width, col_step if col_turns > 1 else 1
    first = row * width + col
    if rows == 1:
        frames = (first, col_step, columns, 1) if col_step > 1 else (first, columns, 1, columns)
    elif col_step == 1:
        frames = (first, row_step, rows, columns) if row_step > columns else (first, rows * columns, 1, rows * columns)
    elif columns * col_step == width and row_step == width:
        frames = (first, col_step, rows * columns, 1)
    else:
        return None
    return [frames, *rest]


def _checked(piece, selection, whose, within):
    """A piece of a virtual dataset, held against its source: where it begins there, or why it is missing.

    within : see `open_hdf5`
    """
    try:
        with open_hdf5(piece.path, within) as file:
            source = dataset_in(file, piece.key)
            if source.file.filename != file.filename:       # reached by a link
                piece = replace(piece, path=Path(source.file.filename), key=source.name)
            shape, nested, depth, turned = source.shape, source.is_virtual, depth_of(source), has_matlab_marks(source)
    except SourceError as err:
        return replace(piece, missing=str(err))
    axes = _regular(selection, shape)
    if len(shape) == 2:
        shape, axes = (1, *shape), axes and [(0, 1, 1, 1), *axes]
    elif len(shape) == 4:
        axes = axes and _flat(axes, shape)
        shape = (shape[0] * shape[1], *shape[2:])
        if axes and axes[0][2] > 1:
            axes = None         # with gaps between its frames
    if axes is None or nested or any(turns > 1 for _, _, turns, _ in axes):
        raise SourceError(f"{whose}: its part from {piece.path} is {'virtual again' if nested else 'not one block'}; "
                          f"read that file itself")
    (first, _, _, _), (row, _, _, _), (col, _, _, _) = axes
    if (row, col) != (0, 0) or shape[1:] != piece.shape or first + piece.count > shape[0]:
        return replace(piece, missing=f"{piece.path}: {piece.key} has shape {shape}, which does not hold the "
                                      f"{piece.count} frames of {piece.shape} pixels from frame {first} on")
    return replace(piece, first=first, depth=depth, turned=turned)


def covered(pieces, shape):
    """bool (h, w), which pixels any piece has, where pieces are parts of frames and leave gaps; else None."""
    places = {(piece.row, piece.col, *piece.shape) for piece in pieces}
    if any((high, wide) == tuple(shape) for _, _, high, wide in places):
        return None
    covered = np.zeros(shape, bool)
    for row, col, high, wide in places:
        covered[row:row + high, col:col + wide] = True
    return None if covered.all() else covered


def _regular(space, shape):
    """[(start, stride, count, block)] along each axis of a selection; None where it is the whole or irregular."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [(0, n, 1, n) for n in shape] if shape else None
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return None
    axes = [[int(v) for v in axis] for axis in zip(*space.get_regular_hyperslab())]
    # HDF5 keeps what follows without a gap as one block, of stride 1
    return [(start, max(stride, block), n, block) for start, stride, n, block in axes]
