"""For recipe authors: tiny detector files, what every recipe must do, and "run this on N ranks"."""
from ptyprep.testing.contract import check_layout, check_recipe
from ptyprep.testing.files import read_part, read_ptyd, write_cxi, write_dectris, write_positions
from ptyprep.testing.ranks import launch, messages, mpirun, run_on_ranks
from ptyprep.testing.tiny import Tiny

__all__ = ["Tiny", "check_layout", "check_recipe", "launch", "messages", "mpirun", "read_part", "read_ptyd",
           "run_on_ranks", "write_cxi", "write_dectris", "write_positions"]
