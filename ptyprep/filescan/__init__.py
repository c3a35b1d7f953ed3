"""Scans whose positions, masks and corrections lie in files: `FileScan`, the base of most recipes."""
