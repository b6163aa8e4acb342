"""Entry of `python -m aero` and of aero.py.

Its syntax is plain enough for Python 2.7, so that an interpreter that is too old is told so in one line.
"""

import sys

if sys.hexversion < 0x03090000:
    sys.stderr.write("aero: needs Python 3.9 or newer, this is {}.{}\n".format(*sys.version_info))
    sys.exit(78)
else:
    from aero.boot import settle_signals

    settle_signals()
    from aero.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
