"""Parameters: declared once, converted from what the user gives, and printed in many ways."""

from ptyprep.params.declare import Array, Group, Par, Tree, Values, walk

__all__ = ["Array", "Group", "Par", "Tree", "Values", "walk"]
