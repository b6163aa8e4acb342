"""The archive's __main__.py. Python 2.7 and 3.6 must be able to compile it, so: old syntax, and next to nothing.

What this file may not do itself stands in aero/boot/__init__.py, as byte code for the Python that runs it.
"""

import sys

if __name__ == "__main__":
    if sys.hexversion < 0x03090000:
        sys.stderr.write("aero: needs Python 3.9 or newer, this is " + sys.version.split()[0] + "\n")
        sys.exit(78)
    sys.path.insert(0, sys.path[0] + "/boot/cp" + "".join(map(str, sys.version_info[:2])))
    from aero.boot import start

    sys.exit(start(sys.path[1]))
