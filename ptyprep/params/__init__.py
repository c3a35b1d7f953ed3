"""Parameters: declared once, converted from what the user gives, and printed in many ways."""

from ptyprep.params.convert import Array
from ptyprep.params.declare import Group, Tree, Values, walk
from ptyprep.params.par import Par

__all__ = ["Array", "Group", "Par", "Tree", "Values", "walk"]
