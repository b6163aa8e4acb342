"""Giving up what root may do, once every port is bound: what the server still needs is made ready for another user."""

from __future__ import annotations

import os

from aero.address import UnixPath
from aero.config.roles import ServerConfig
from aero.host import privileges
from aero.host.run import open_log
from aero.server import late


def step_down(user: str, config: ServerConfig) -> None:
    """Becomes another user, and opens the log as that one. Raises ConfigError, HostError."""
    who = privileges.user(user)
    late.load(config)
    if os.geteuid() == 0:
        if config.log:
            privileges.prepare_log(config.log, who)
        if config.access_log:
            privileges.prepare_log(config.access_log, who)
        if config.state:
            privileges.prepare_state(config.state, who)
        if isinstance(config.api, UnixPath):
            os.chown(config.api.path, who.pw_uid, who.pw_gid, follow_symlinks=False)
    privileges.drop(user)
    open_log(config)
