"""`aero list`, `aero ping`, `aero kick` and `aero page`: the management API's calls for people in a terminal.

Asks over HTTP, like everybody; knows nothing of the server's inside. Every function returns what is to be printed,
and raises ConfigError, Rejected (the API said no), NetworkError, HostError (no key) or AeroError.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from aero.address import Address, UnixPath
from aero.config.roles import ConsoleConfig, KickConfig, ListConfig, OpenConfig, PageConfig, WorkerConfig
from aero.config.table import KeyOptions
from aero.core.codes import Close
from aero.errors import AeroError, ConfigError, NetworkError, Rejected
from aero.host import keyfile
from aero.logs import clean
from aero.server.api.pageaddress import address_with

#: Longer than the API waits for a worker's pong.
TIMEOUT_S = 15.0
#: The answer about the most workers there may be, each with some targets.
ANSWER_BYTES = 64 * 1024 * 1024
COLUMNS = ("TAG", "CID", "HOST", "UP", "LINK", "PING", "TARGET", "LOCAL", "LISTEN", "STREAMS", "IN", "OUT")
RIGHT = ("UP", "PING", "STREAMS", "IN", "OUT", "REQUESTS", "REFUSED")
GAP = "  "


def listed(config: ListConfig) -> str:
    """The workers as a table, or the API's answer as it is."""
    query = f"?tags={quote(','.join(config.tags))}" if config.tags else ""
    answer = ask(config, "GET", "/list" + query)
    if config.as_json:
        return json.dumps(answer, indent=2) + "\n"
    workers = answer["workers"]
    now = datetime.now(timezone.utc)
    late = "".join(_late(each, now) for each in answer["late"])
    if not workers:
        return "No workers" + (f" with the tags {','.join(config.tags)}.\n" if config.tags else ".\n") + late
    rows = [row for worker in sorted(workers, key=_by_name) for row in _rows(worker, now)]
    return table(COLUMNS, rows) + late


def _late(late: dict[str, Any], now: datetime) -> str:
    """A line about a worker that did not come back in its usual time."""
    away_s = (now - datetime.fromisoformat(late["since"].replace("Z", "+00:00"))).total_seconds()
    who = f"{clean(late['tag'])} on {clean(late['host'])}"
    return f"late: {who} is away for {duration(away_s)}, usually {duration(late['usual_s'])} at the most\n"


def pinged(config: WorkerConfig) -> str:
    """One round trip."""
    answer = ask(config, "GET", f"/ping?cid={quote(config.cid)}")
    return f"{clean(answer['cid'])} answered in {answer['rtt_ms']:.3f} ms\n"


def page(config: PageConfig) -> str:
    """Where the page is, with what opens it. Asks nobody."""
    if isinstance(config.api, UnixPath):
        raise ConfigError(f"no browser reaches {config.api}: name the address of a server's page with --api")
    return address_with(secret_of(config), config.api) + "\n"


def secret_of(config: KeyOptions) -> str:
    """What changes need: the token that was given, else the server's key."""
    return config.api_token or keyfile.find(config.state)


def kicked(config: KickConfig) -> str:
    """A worker is sent away."""
    answer = ask(config, "POST", f"/kick?cid={quote(config.cid)}", secret_of(config))
    streams = answer["streams"]
    left = (
        f"its {streams} open streams may end within {answer['grace_s']:.0f} s"
        if streams
        else "no stream was open"
    )
    return f"{clean(answer['cid'])} is sent away, {left}; it comes back after 30 seconds or more\n"


def opened(config: OpenConfig, environ: Mapping[str, str]) -> str:
    """A closed target is opened for a time, or closed."""
    whence = config.whence
    if whence == "me":  # who came here by ssh is not who asks the API
        whence = environ.get("SSH_CONNECTION", "").partition(" ")[0] or whence
    query = f"target={quote(config.target, safe='')}&for={config.for_s}&cut={int(config.cut)}"
    if whence and config.for_s:
        query += f"&from={quote(whence, safe='')}"
    answer = ask(config, "POST", f"/open?{query}", secret_of(config))
    if not answer["open"]:
        return f"{clean(config.target)} is closed\n"
    ports = ", ".join(map(str, answer["ports"]))
    where = f"at port {ports}" if ports else "by HTTP"
    whom = answer["from"] or "anybody"
    return f"{clean(config.target)} is open {where} until {answer['until']}, for {whom}\n"


def _by_name(worker: dict[str, Any]) -> tuple[str, str, str]:
    return worker["tag"], worker["host"], worker["cid"]


def _rows(worker: dict[str, Any], now: datetime) -> list[list[str]]:
    since = datetime.fromisoformat(worker["connected_at"].replace("Z", "+00:00"))
    ping = f"{worker['ping_ms']:.1f} ms" if worker["ping_ms"] is not None else "-"
    up = duration((now - since).total_seconds()) if worker["links"] else "away"
    link = ",".join(worker["transports"]) or "-"
    who = [worker["tag"], worker["cid"], worker["host"], up, link, ping]
    if not worker["targets"]:
        return [[*who, "-", "-", "-", "-", "-", "-"]]
    return [
        [
            *(who if not number else [""] * len(who)),
            target["name"] + ("/udp" if target["proto"] == "udp" else ""),
            target["local"],
            _listening(target),
            str(target.get("streams", target.get("flows"))),
            size(target["bytes_in"]),
            size(target["bytes_out"]),
        ]
        for number, target in enumerate(worker["targets"])
    ]


def _listening(target: dict[str, Any]) -> str:
    if not target.get("open", True):
        return "closed"
    places = [target["listen"], *target.get("domains", ())]
    where = ", ".join(filter(None, places)) or "the HTTP mux only"
    return where if target.get("healthy", True) else f"{where} (down: {target['why']})"


def table(heads: Sequence[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell, numbers to the right."""
    cells = [list(heads), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    lines = [
        GAP.join(
            cell.rjust(width) if head in RIGHT else cell.ljust(width)
            for cell, width, head in zip(row, widths, heads)
        )
        for row in cells
    ]
    return "".join(line.rstrip() + "\n" for line in lines)


def duration(seconds: float) -> str:
    """A time span in its two largest units: ``5 s``, ``3 min``, ``2 h 10 min``, ``4 d 3 h``."""
    minutes = max(int(seconds), 0) // 60
    if not minutes:
        return f"{max(int(seconds), 0)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def size(count: float) -> str:
    """A number of bytes: ``512 B``, ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket in the file system."""

    def __init__(self, path: str) -> None:
        """``path``: where it is."""
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connects. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _connection(api: Address | UnixPath) -> http.client.HTTPConnection:
    if isinstance(api, UnixPath):
        return _UnixConnection(api.path)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(api.host, api.host)
    return http.client.HTTPConnection(host, api.port, timeout=TIMEOUT_S)


def ask(config: ConsoleConfig, method: str, path: str, secret: str = "") -> Any:
    """One call; the answer's JSON. ``secret``: what the call needs, where that is not the token alone."""
    secret = secret or config.api_token
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    connection = _connection(config.api)
    try:
        connection.request(method, path, b"{}" if method == "POST" else None, headers)
        response = connection.getresponse()
        body = response.read(ANSWER_BYTES)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NetworkError(
            f"cannot ask the API at {config.api}: {why}; is the server running there? --api names another"
        ) from None
    finally:
        connection.close()
    try:
        answer = json.loads(body)
        error_text = answer.get("error", "")
    except (ValueError, AttributeError):
        raise NetworkError(
            f"what listens at {config.api} is not AeRO-proxy's API; --api names another"
        ) from None
    if response.status == 401:
        if config.api_token or not secret:
            given = "does not take this token" if secret else "asks for a token"
            raise Rejected(Close.AUTH, f"the API at {config.api} {given}, see --api-token", final=True)
        raise Rejected(
            Close.AUTH, f"the API at {config.api} does not take this key: {clean(error_text)}", final=True
        )
    if response.status in (400, 403, 404, 409):
        raise Rejected(Close.DENIED, clean(error_text), final=True)
    if response.status != 200:
        raise AeroError(clean(error_text) or f"the API answered {response.status}")
    return answer
