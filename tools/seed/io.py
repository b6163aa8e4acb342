"""Stands in for io, which CPython 3.9 and 3.10 import before they open their standard streams."""

from _io import *  # noqa: F403 - as the real one re-exports nearly all of it
from _io import open

OpenWrapper = open
