"""The worker put together: what a reload takes over, and how it stops."""

from __future__ import annotations

import logging

import pytest

from aero.address import Target
from aero.config.roles import ClientConfig
from aero.endpoint import Endpoints
from aero.errors import ConfigError
from aero.worker.app import WorkerApp
from aero.worker.dump import dump
from aero.worker.identity import once

A, B = (Target(name, "127.0.0.1", port) for name, port in (("a", 1), ("b", 2)))


@pytest.fixture
def config() -> ClientConfig:
    return ClientConfig(tag="t", host="h", server=Endpoints.at("127.0.0.1", 1), targets=(A,), auth="code one")


@pytest.fixture
def app(config: ClientConfig) -> WorkerApp:
    return WorkerApp(config, lambda target, port: None)


def names(app: WorkerApp) -> list[str]:
    return [service.target.name for service in app.services]


def test_a_reload_takes_targets_and_code(app: WorkerApp, config: ClientConfig) -> None:
    password = app.ground.password
    app.reload(lambda: config.replace(targets=(A, B), auth="code two"))
    assert names(app) == ["a", "b"]
    assert app.ground.config.auth == "code two" and app.ground.password is not password


def test_a_reload_that_changes_no_code_stretches_none(app: WorkerApp, config: ClientConfig) -> None:
    password = app.ground.password
    app.reload(lambda: config.replace(targets=(B,)))
    assert app.ground.password is password and names(app) == ["b"]


def test_a_reload_that_cannot_read_changes_nothing(
    app: WorkerApp, config: ClientConfig, caplog: pytest.LogCaptureFixture
) -> None:
    def read() -> ClientConfig:
        raise ConfigError("worker.toml: no such file")

    before = app.ground.config
    app.reload(read)
    assert app.ground.config is before and names(app) == ["a"]
    assert "reload failed, keeping the previous configuration" in caplog.text


def test_a_reload_says_what_needs_a_restart(
    app: WorkerApp, config: ClientConfig, caplog: pytest.LogCaptureFixture
) -> None:
    app.reload(lambda: config.replace(tag="other"))
    assert "these need a restart" in caplog.text and app.ground.config.tag == "t"


def test_to_stop_twice_is_to_stop_once(app: WorkerApp) -> None:
    app.stop()
    app.stop()
    assert app.outcome.get(timeout=1) == 0


def test_a_dump_has_a_line_for_the_process_each_lane_and_each_target(
    app: WorkerApp, caplog: pytest.LogCaptureFixture
) -> None:
    app.reload(lambda: app.ground.config.replace(targets=(A, B)))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        dump(app.ground, app.crew, app.services)
    found = [record.getMessage() for record in caplog.records]
    assert [text.split(" ")[0] for text in found] == ["worker", "lane", "target", "target"]
    assert "state=resting" in found[1] and "port=0" in found[2]


@pytest.mark.parametrize(
    ("host", "warned"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("a.b", False)]
)
def test_whoever_forgets_the_server_is_told_where_it_is_looked_for(
    config: ClientConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    warned: bool,
) -> None:
    app = WorkerApp(config.replace(server=Endpoints.at(host, 1)), lambda target, port: None, once())
    monkeypatch.setattr(app.crew, "start", lambda: None)
    app.start()
    assert ("looked for on this machine itself" in caplog.text) is warned
