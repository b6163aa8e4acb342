"""`--verify`: checks the archive against itself. Reads the file; imports no native library."""

from __future__ import annotations

import hashlib
import sys
import zipfile


def verify(archive: str) -> int:
    """Compare every member with the manifest and the whole file with its seal; return 0 or 1."""
    faults = []
    with open(archive, "rb") as file:
        whole = file.read()
    _, seal, body = whole.split(b"\n", 2)
    if seal.split()[-1] != hashlib.sha256(body).hexdigest().encode():
        faults.append("what follows the second line does not have the SHA-256 that stands there")
    try:
        with zipfile.ZipFile(archive) as bundle:
            listed = dict(line.split("  ")[::-1] for line in bundle.read("MANIFEST").decode().splitlines())
            names = set(bundle.namelist()) - {"MANIFEST"}
            faults += [f"{name} is missing" for name in sorted(set(listed) - names)]
            faults += [f"{name} is not in the manifest" for name in sorted(names - set(listed))]
            for name in sorted(names & set(listed)):
                if hashlib.sha256(bundle.read(name)).hexdigest() != listed[name]:
                    faults.append(f"{name} is damaged")
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        faults.append(f"the archive cannot be read: {error}")
    for fault in faults:
        print(f"aero: {archive}: {fault}", file=sys.stderr)
    if not faults:
        print(f"{hashlib.sha256(whole).hexdigest()}  {archive}: intact")
    return 1 if faults else 0
