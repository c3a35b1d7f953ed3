"""The loops over pixels in C, `core`; None where ptyprep was installed without a compiler, and NumPy does the same."""
from importlib import import_module

try:
    core = import_module("ptyprep.kernels._core")
except ImportError:
    core = None

SIZES = (1, 2, 4, 8)        # bytes of the numbers that it knows
