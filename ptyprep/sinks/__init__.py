"""Where prepared batches go: a class for each way to save."""
from ptyprep.sinks.append import Append
from ptyprep.sinks.link import Link
from ptyprep.sinks.merge import Merge
from ptyprep.sinks.runs import earlier, refuse
from ptyprep.sinks.virtual import Virtual

SINKS = {"append": Append, "link": Link, "merge": Merge, "virtual": Virtual}

__all__ = ["SINKS", "Append", "Link", "Merge", "Virtual", "earlier", "refuse"]
