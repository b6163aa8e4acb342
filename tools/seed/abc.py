"""Stands in for abc, which CPython 3.9 and 3.10 import at their start."""
