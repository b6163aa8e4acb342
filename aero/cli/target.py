"""`aero target add`, `remove` and `list`: targets that a server's operator adds to workers which run."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from aero.address import UDP
from aero.cli.console import ask, secret_of, table
from aero.config.roles import TargetConfig
from aero.config.targets import target
from aero.errors import ConfigError
from aero.logs import clean


def added(where: str, text: str, config: TargetConfig) -> str:
    """Asks the workers of a tag, or one, for a target."""
    wanted = target(text)
    if wanted.settings:
        raise ConfigError(
            f"a target that is added has no options but remote=, leave out {wanted.settings[0].key}="
        )
    asked = {"to": where, "name": wanted.name, "local": str(wanted.place), "proto": wanted.proto}
    asked |= {"remote": str(wanted.remote)} if wanted.remote else {}
    asked |= {"for": str(config.for_s)} if config.for_s else {}
    answer = ask(config, "POST", f"/targets?{urlencode(asked)}", secret_of(config))
    if config.as_json:
        return json.dumps(answer, indent=2) + "\n"
    until = f"until {answer['until']}" if answer["until"] else "for good"
    lines = [f"{wanted.name}@{wanted.where} is added to {clean(answer['to'])} {until}"]
    lines += [f"{each['cid']}: {_outcome(each)}" for each in answer["workers"]]
    if not answer["workers"]:
        lines.append("no worker is there now; those that come are asked for it")
    return "\n".join(lines) + "\n"


def removed(name: str, config: TargetConfig) -> str:
    """Takes one away."""
    bare, _, proto = name.partition("/udp")
    asked = {"target": bare, **({"proto": UDP} if name.endswith("/udp") and not proto else {})}
    answer = ask(config, "POST", f"/targets/remove?{urlencode(asked)}", secret_of(config))
    return f"{clean(answer['name'])} of {clean(answer['to'])} is removed; its open streams go on\n"


def listed(config: TargetConfig) -> str:
    """What was added."""
    answer = ask(config, "GET", "/targets")
    if config.as_json:
        return json.dumps(answer, indent=2) + "\n"
    rows = [_row(each) for each in answer["targets"]]
    return table(("TO", "TARGET", "LOCAL", "UNTIL"), rows) if rows else "No targets were added.\n"


def _outcome(worker: dict[str, Any]) -> str:
    return f"port {worker['port']}" if worker["port"] else clean(worker["why"])


def _row(each: dict[str, Any]) -> list[str]:
    name = each["name"] + ("/udp" if each["proto"] == UDP else "")
    return [each["to"], name, each["local"], each["until"] or "removed"]
