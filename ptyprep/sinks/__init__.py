"""Where prepared batches go: a class for each way to save."""
from ptyprep.sinks.append import Append
from ptyprep.sinks.link import Link

SINKS = {"append": Append, "link": Link}

__all__ = ["SINKS", "Append", "Link"]
