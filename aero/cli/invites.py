"""`aero invite` and `aero invites`: short codes for new workers, at the server's side."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from aero.address import Address
from aero.cli.console import ask, secret_of, table
from aero.config.roles import InviteConfig, InvitesConfig
from aero.logs import clean


def invited(config: InviteConfig) -> str:
    """A new invitation: what to type at the other end."""
    asked: dict[str, object] = {"user": config.user, "for": config.for_s, "words": config.words}
    asked |= {"tag": config.tag} if config.tag else {}
    asked |= {"may": str(config.may)} if config.may is not None else {}
    answer = ask(config, "POST", f"/invite?{urlencode(asked)}", secret_of(config))
    host = config.api.host if isinstance(config.api, Address) else "localhost"
    name = "HOST" if host in ("localhost", "127.0.0.1", "::1") else host
    where = f"targets at {answer['may']}" if answer["may"] else "targets anywhere"
    return (
        f"{answer['code']}\n"
        f"good once until {answer['expires_at']}, for a worker of {clean(answer['user'])} with the tag"
        f" {clean(answer['tag'])} and {clean(where)}; at the other end, with this server's name and port:\n"
        f"  aero join {name}:{answer['port']} {answer['code']}\n"
    )


def listed(config: InvitesConfig) -> str:
    """Who was invited, and who came; or the end of one of them."""
    if config.withdraw:
        query = urlencode({"name": config.withdraw})
        ask(config, "POST", f"/withdraw?{query}", secret_of(config))
        return f"{config.withdraw} is withdrawn\n"
    answer = ask(config, "GET", "/invites")
    if config.as_json:
        return json.dumps(answer, indent=2) + "\n"
    rows = [_invitation(each) for each in answer["invitations"]]
    rows += [_credential(each) for each in answer["credentials"]]
    if not rows:
        return "Nobody was invited.\n"
    return table(("NAME", "USER", "TAG", "MAY", "STATE"), rows)


def _invitation(each: dict[str, Any]) -> list[str]:
    state = f"good until {each['expires_at']}, {each['tries']} tries left"
    if each["over"]:
        state = each["over"] + (f" by {each['login']}" if each["login"] else "")
    return [str(each["number"]), each["user"], each["tag"], each["may"] or "anywhere", state]


def _credential(each: dict[str, Any]) -> list[str]:
    state = f"joined {each['made_at']} from {each['address']} ({each['host']})"
    return [each["login"], each["user"], each["tag"], each["may"] or "anywhere", state]
