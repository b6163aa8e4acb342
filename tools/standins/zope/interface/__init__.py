"""Stands in for zope.interface inside aero.pyz: what gevent's modules use while they are imported, and no more.

gevent declares interfaces but never asks for them at run time. The real package costs a worker 15 ms and 0.9 MB.
"""


class Interface:
    """A class that only documents what others provide."""


class Attribute:
    """A documented attribute of an interface."""

    def __init__(self, *_, **__):
        """Accept and forget the documentation."""


def implementer(*_):
    """Return a decorator that leaves the class as it is."""
    return lambda cls: cls


def classImplements(cls, *_):
    """Leave the class as it is."""
