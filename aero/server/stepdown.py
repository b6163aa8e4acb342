"""Giving up what root may do, once every port is bound: what the server still needs is made ready for another user."""

from __future__ import annotations

import os
from importlib import import_module

from aero.address import UnixPath
from aero.config.roles import ServerConfig
from aero.host import privileges
from aero.host.run import open_log

# What is imported when it is needed. A user that the server becomes may not be able to read the program by then: in
# root's home, for example.
_LOADED_LATE = ("encodings.idna", "fcntl", "ipaddress", "json", "termios")
_FOR_HOOKS = ("aero.server.registry.asking", "gevent.ssl", "http.client", "urllib.parse")


def step_down(user: str, config: ServerConfig) -> None:
    """Becomes another user, and opens the log as that one. Raises ConfigError, HostError."""
    who = privileges.user(user)
    parts = {
        "aero.server.httpmux.server": config.mux or config.mux_tls,
        "aero.server.api.app": config.api,
        "aero.server.registry.doors.sockets": config.listen_unix,
        **dict.fromkeys(_FOR_HOOKS, config.hooks or config.hook_asks),
    }
    for name in (*_LOADED_LATE, *(name for name, where in parts.items() if where)):
        import_module(name)
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
