"""The command line."""

from ptyprep.cli.commands import main

__all__ = ["main"]
