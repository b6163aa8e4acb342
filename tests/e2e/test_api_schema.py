"""The API's description against the API itself, by schemathesis: statuses, contents, headers, refusals, the token."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.harness import Lab

TIMEOUT_S = 150.0  # ten times what it takes


@pytest.mark.skipif(sys.version_info < (3, 11), reason="schemathesis has left this Python behind")
def test_the_description_is_true(lab: Lab) -> None:
    token = "token-of-this-test"
    api = ApiServer(lab, "--api-token", token, token=token)
    lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    folder = lab.new_folder("schemathesis")
    # A ping that is answered needs a worker that is there.
    cid = api.worker("nas")["cid"]
    (folder / "schemathesis.toml").write_text(
        f'[[operations]]\ninclude-name = "GET /ping"\nparameters = {{ cid = "{cid}" }}\n'
    )
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"]
    command += ["--exclude-path", "/events"]  # its answer does not end
    command += ["--checks", "all", "--phases", "coverage,fuzzing", "--max-examples", "5"]
    command += ["--generation-deterministic", "--no-color"]
    command += ["--header", f"Authorization: Bearer {token}"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=lab.environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert api.call("/health").status == 200
