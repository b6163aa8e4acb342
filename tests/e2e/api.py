"""A server with its management API, as its callers see it: HTTP on a socket, and nothing of aero imported."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.e2e.harness import COMMAND, DEADLINE_S, LOOPBACK, Lab, Program, free_port, listening, poll

JSON = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of a problem, which is always the same two fields."""
        content = self.json
        assert set(content) == {"error", "status"}
        assert content["status"] == self.status
        return str(content["error"])


class ApiServer:
    """A running server with an API on loopback."""

    def __init__(
        self, lab: Lab, *options: str, token: str = "", env: Mapping[str, str] | None = None
    ) -> None:
        self.lab = lab
        self.port, self.link_port = free_port(), free_port()
        self.token = token
        self.state = lab.path("server-state")
        self._argv = [*COMMAND, "server", "--ip", LOOPBACK, "--port", str(self.link_port)]
        self._argv += ["--api", f"localhost:{self.port}", "--mux", "off", "--ports", "0"]
        self._argv += ["--state", str(self.state), "--auth", lab.code, *options]
        self._env = env
        self.program: Program
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        self.program = self.lab.start(self._argv, name="server", env=self._env)
        poll("the API to listen", lambda: listening(self.port) or not self.program.running)
        assert self.program.running, f"the server ended with {self.program.popen.returncode}"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def call(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=DEADLINE_S)
        try:
            given = {"Host": f"localhost:{self.port}", **own, **(headers or {})}
            connection.request(method, path, body, given)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, fields, response.read())
        finally:
            connection.close()

    @property
    def key(self) -> str:
        """What changes need: the token, else what stands in the server's state folder."""
        if self.token:
            return self.token
        self.call("/health")  # it listens before it has its state; once it answers it has
        return (self.state / "api-key").read_text().strip()

    def post(self, path: str, body: str = "{}", headers: Mapping[str, str] | None = None) -> Reply:
        own = {**JSON, "Authorization": f"Bearer {self.key}"}
        return self.call(path, "POST", {**own, **(headers or {})}, body)

    def raw(self, request: bytes) -> bytes:
        """Bytes out, everything that comes back until the server hangs up."""
        with socket.create_connection((LOOPBACK, self.port), DEADLINE_S) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("/list").json["workers"]
        return found

    def worker(self, tag: str) -> dict[str, Any]:
        """The only worker with a tag, once it is there with a target."""

        def look() -> dict[str, Any] | None:
            return next((each for each in self.workers() if each["tag"] == tag and each["targets"]), None)

        found = poll(f"worker {tag} in the list", look)
        assert found is not None
        return found

    def metric(self, name: str, **labels: str) -> float:
        """One sample's value; 0 for one that is not there (yet)."""
        for line in self.call("/metrics").body.decode().splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(
                f'{key}="{text}"' in head for key, text in labels.items()
            ):
                return float(value)
        return 0.0


class EventStream:
    """A listener to /events."""

    def __init__(self, api: ApiServer, last_id: str = "") -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, api.port, timeout=DEADLINE_S)
        headers = {"Host": "localhost", **({"Last-Event-ID": last_id} if last_id else {})}
        if api.token:
            headers["Authorization"] = f"Bearer {api.token}"
        self._connection.request("GET", "/events", headers=headers)
        self.response = self._connection.getresponse()
        api.lab.closing.callback(self._connection.close)
        assert self.response.status == 200
        self._blocks = self._read()
        assert next(self._blocks) == {"retry": "2000"}

    def _read(self) -> Iterator[dict[str, str]]:
        block: dict[str, str] = {}
        while line := self.response.readline().decode():
            if line == "\n":
                yield block
                block = {}
            elif not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                block[name] = value

    def next(self, what: str) -> dict[str, Any]:
        """The next event of a kind, with its id."""
        for block in self._blocks:
            if block.get("event") == what:
                return {**json.loads(block["data"]), "id": block["id"]}
        raise AssertionError(f"the stream ended before {what}")
