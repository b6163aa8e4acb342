"""The build of aero.pyz: from pinned wheels and this checkout to one archive, byte for byte the same everywhere."""
