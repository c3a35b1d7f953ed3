"""ptyprep: ptychography data preparation, from raw scans to `.ptyd`."""

__version__ = "0.1.0"

from ptyprep.batch import EOS, WAIT, Batch, Meta, Package
from ptyprep.correct import Corrections
from ptyprep.errors import (
    FrameError,
    OutputError,
    ParameterError,
    PeerError,
    PositionError,
    PtyprepError,
    RecipeError,
    SourceError,
)
from ptyprep.files import FileScan
from ptyprep.frame import FramePlan
from ptyprep.params import Array, Group, Par
from ptyprep.registry import recipe
from ptyprep.scan import PtyScan
from ptyprep.sources import FrameSource, open_frames

__all__ = ["EOS", "WAIT", "Array", "Batch", "Corrections", "FileScan", "FrameError", "FramePlan", "FrameSource",
           "Group", "Meta", "OutputError", "Package", "Par", "ParameterError", "PeerError", "PositionError", "PtyScan",
           "PtyprepError", "RecipeError", "SourceError", "open_frames", "recipe"]
