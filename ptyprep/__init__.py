"""ptyprep: ptychography data preparation, from raw scans to `.ptyd`."""

__version__ = "0.1.0"

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
from ptyprep.filescan.filescan import FileScan
from ptyprep.params.convert import Array
from ptyprep.params.declare import Group
from ptyprep.params.par import Par
from ptyprep.pipeline.batch import EOS, WAIT, Batch, Meta, Package
from ptyprep.processing.corrections import Corrections
from ptyprep.processing.plan import FramePlan
from ptyprep.registry import recipe
from ptyprep.scan import PtyScan
from ptyprep.sources import FrameSource, open_frames

__all__ = ["EOS", "WAIT", "Array", "Batch", "Corrections", "FileScan", "FrameError", "FramePlan", "FrameSource",
           "Group", "Meta", "OutputError", "Package", "Par", "ParameterError", "PeerError", "PositionError", "PtyScan",
           "PtyprepError", "RecipeError", "SourceError", "open_frames", "recipe"]
