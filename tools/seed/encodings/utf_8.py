"""Imported by CPython while it opens its standard streams; the codec is in the package."""
