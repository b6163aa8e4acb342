"""The numbers of PROTOCOL.md, sections "Close codes" and "Reset codes", and their names. Nothing else."""

from __future__ import annotations


class Close:
    """Why a link ended, or was refused."""

    DONE = 0  # nothing is wrong: stopped as asked
    NOT_AERO = 1  # the first bytes were not this protocol
    VERSION = 2  # another protocol version
    AUTH = 3  # wrong code, or unknown user: the same answer for both
    RECORD = 4  # a record that is too long, too short or forged
    FRAME = 5  # a frame that breaks a rule
    UNKNOWN_STREAM = 6  # a frame for a stream that never was
    CREDIT = 7  # more data than the credit that was given
    STATE = 8  # a frame that may not come now
    SEQUENCE = 9  # an acknowledgement or a position that cannot be
    OVERLOAD = 10  # the peer keeps us from staying within our limits
    SILENT = 11  # no sign of life for two intervals
    GONE = 12  # the session to take over is not known (any more)
    REPLACED = 13  # a newer link of the same session, or the same worker restarted
    KICKED = 14  # an operator sent the worker away
    RESTART = 15  # the server is going down and will be back
    LIMIT = 16  # too many links, handshakes or workers
    DENIED = 17  # this worker may not do that
    INTERNAL = 18  # an error of the program at that end
    AUTH_NEXT = 19  # as AUTH; the code that the server changes to is asked for under another name


# After these, and after a link that just broke, the session may go on over another link: the path was at fault, not a
# peer. Every other code ends the session at both ends.
RESUMABLE = (Close.RECORD, Close.SILENT)


class Reset:
    """Why a stream ended early."""

    CANCELLED = 0  # the socket behind it was reset
    REFUSED = 1  # the target refused the connection
    UNREACHABLE = 2  # no way to the target, or its name does not resolve
    TIMEOUT = 3  # the target did not answer in time
    NO_TARGET = 4  # no such target (any more)
    LIMIT = 5  # too many streams, or too much that nobody reads
    LOST = 6  # the session could not be resumed
    INTERNAL = 7  # an error of the program at that end


def _names(numbers: type) -> dict[int, str]:
    return {
        value: name.lower().replace("_", " ")
        for name, value in vars(numbers).items()
        if name.isupper()  # from Python 3.13 on a class has numbers of its own
    }


CLOSE_NAMES = _names(Close)
RESET_NAMES = _names(Reset)
