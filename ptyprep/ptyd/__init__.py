"""Prepared files: whether one is whole, and what can be saved of it."""
