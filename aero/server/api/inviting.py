"""POST /invite, GET /invites, POST /withdraw: invitations, and the credentials that came of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Table
from typing import Any, Protocol

from aero import logs
from aero.address import check_name
from aero.errors import ConfigError, Problem, Rejected
from aero.server.api.times import rfc3339
from aero.server.store.credentials import Credential

log = logs.get("api")

INVITE = ("user", "tag", "may", "for", "words")


class Invited(Protocol):
    """One of them, as links/invitations.py has it."""

    number: int
    user: str
    tag: str
    may: str
    expires_at: float
    tries: int
    over: str
    given: Credential | None


class Inviter(Protocol):
    """All of them (links/invitations.py)."""

    def __iter__(self) -> Iterator[Invited]:
        """Those that are good, and those that are remembered."""

    @property
    def credentials(self) -> Iterable[Credential]:
        """What came of those that were used."""

    def invite(self, user: str, tag: str, may: str, lasts_s: int, words: int) -> tuple[Invited, str]:
        """A new one, and its code. Raises ConfigError, Rejected."""

    def withdraw(self, name: str) -> bool:
        """An invitation or a credential counts no more. False where there is none."""


def invited(invitations: Inviter, given: Table[str, str], address: str, port: int) -> dict[str, Any]:
    """A new invitation with its code; ``address``: who asks; ``port``: where workers dial. Raises Problem."""
    seconds, words = given.get("for", "600"), given.get("words", "2")
    if not all(each.isascii() and each.isdecimal() and len(each) <= 8 for each in (seconds, words)):
        raise Problem(400, "for is a number of seconds, and words a number")
    user, tag = given.get("user", ""), given.get("tag", "")
    if not user:
        raise Problem(400, "say whose it is: user=NAME, one of the server's users")
    try:
        user = check_name(user)
        made, code = invitations.invite(user, tag or user, given.get("may", ""), int(seconds), int(words))
    except ConfigError as error:
        raise Problem(400, str(error)) from None
    except Rejected as error:
        raise Problem(409, str(error)) from None
    log.info("invite", number=made.number, user=user, tag=made.tag, by=address)
    return {"code": code, "port": port, **shown(made)}


def shown(invitation: Invited) -> dict[str, Any]:
    """An invitation as the API tells of it, without its code, which nobody keeps."""
    given = invitation.given
    return {
        "number": invitation.number,
        "user": invitation.user,
        "tag": invitation.tag,
        "may": invitation.may,
        "expires_at": rfc3339(round(invitation.expires_at)),
        "tries": invitation.tries,
        "over": invitation.over,
        "login": given.login if given is not None else None,
    }


def listed(invitations: Inviter) -> dict[str, Any]:
    """Everything there is."""
    return {
        "invitations": [shown(each) for each in invitations],
        "credentials": [
            {
                "login": each.login,
                "user": each.user,
                "tag": each.tag,
                "may": each.may,
                "host": logs.clean(each.host),
                "address": each.address,
                "made_at": rfc3339(each.made_at),
            }
            for each in invitations.credentials
        ],
    }


def withdrawn(invitations: Inviter, given: Table[str, str], address: str) -> dict[str, Any]:
    """An invitation or a credential counts no more. Raises Problem."""
    name = given.get("name", "")
    if not name:
        raise Problem(400, "say which: name=NUMBER of an invitation, or USER+ID of a credential")
    if not invitations.withdraw(name):
        raise Problem(404, f"there is no open invitation and no credential {logs.clean(name, 80)}")
    log.info("withdraw", name=name, by=address)
    return {"withdrawn": name}
