"""Where a visitor's connection stands, and what may happen there: TRANSITIONS is the whole law.

An event that is missing there is a bug in visitor.py.

    state      request  upstream  what is awaited
    WAITING    None     None      a whole head
    HELD       there    None      a link to the target's worker
    ASKING     there    there     the final head of a response, or the next try's
    ANSWERING  any      or None   the response's last byte written
    RAW        there    there     both directions' ends (after 101)
    REFUSING   None     None      a request in HTTP/2, to be told that there is none
    LINGERING  any      None      the visitor's end, or time
    CLOSED     any      None      nothing
"""

from __future__ import annotations

WAITING = "waiting"
HELD = "held"
ASKING = "asking"
ANSWERING = "answering"
RAW = "raw"
REFUSING = "refusing"
LINGERING = "lingering"
CLOSED = "closed"

PREFACED = "prefaced"  # the visitor has begun with HTTP/2
STOPPED = "stopped"  # no link leads to the target now
ASKED = "asked"  # the request is on its way to a target
BEGUN = "begun"  # a response begins: the target's, or a page
SWITCHED = "switched"  # the target said 101
WRITTEN = "written"  # the response is written, and the connection goes on
LAST = "last"  # the response is written, and the connection ends
GONE = "gone"  # the socket is closed

TRANSITIONS = {
    (WAITING, PREFACED): REFUSING,
    (WAITING, STOPPED): HELD,
    (WAITING, ASKED): ASKING,
    (WAITING, BEGUN): ANSWERING,
    (WAITING, GONE): CLOSED,
    (HELD, ASKED): ASKING,
    (HELD, BEGUN): ANSWERING,
    (HELD, GONE): CLOSED,
    (ASKING, ASKED): ASKING,
    (ASKING, BEGUN): ANSWERING,
    (ASKING, SWITCHED): RAW,
    (ASKING, GONE): CLOSED,
    (ANSWERING, WRITTEN): WAITING,
    (ANSWERING, LAST): LINGERING,
    (ANSWERING, GONE): CLOSED,
    (RAW, GONE): CLOSED,
    (REFUSING, LAST): LINGERING,
    (REFUSING, GONE): CLOSED,
    (LINGERING, GONE): CLOSED,
}
