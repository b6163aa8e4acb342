"""A server that root starts from the archive goes on as somebody who cannot read where its libraries were unpacked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import free_port, poll


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may pass through, as /var/lib."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_server_needs_no_file_any_more_once_it_has_given_up_roots_rights(pyz: Path, folder: Path) -> None:
    port = free_port()
    argv = [sys.executable, str(pyz), "server", "--ip", "127.0.0.1", "--port", "0", "--ports", "0"]
    argv += ["--api", f"localhost:{port}", "--mux", "localhost:0", "--run-as", "nobody", "--auth", "code"]
    argv += ["--state", str(folder / "state")]
    cache = folder / "cache"
    cache.mkdir(0o700)
    env = {"PATH": os.environ["PATH"], "AERO_CACHE": str(cache)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as server:

        def asked(path: str) -> bytes:
            with urllib.request.urlopen(f"http://localhost:{port}{path}", timeout=10) as answer:
                content: bytes = answer.read()
                return content

        def health() -> dict[str, object] | None:
            try:
                found: dict[str, object] = json.loads(asked("/health"))
            except OSError:
                assert server.poll() is None, server.stderr and server.stderr.read()
                return None
            return found

        try:
            poll("the API to answer", health)
            assert b"<!doctype html>" in asked("/")
            for path in ("/list", "/metrics", "/traffic", "/openapi.json"):
                assert asked(path)
            assert (folder / "state" / "api-key").stat().st_uid != 0
        finally:
            server.terminate()
            server.communicate(timeout=20)
    assert server.returncode == 0
