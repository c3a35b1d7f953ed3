"""The scripts beside this file are run by another interpreter, so pytest must not import them for doctests."""

collect_ignore = ["read.py", "reconstruct.py"]
