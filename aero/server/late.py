"""What a server imports when it is needed, all at once for one that gives up root's rights.

A user that the server becomes may not be able to read the program by then: an archive's libraries are unpacked where
only root may look, and an interpreter may be in root's home. Everybody else does without until the need is there: that
is some MB, most of them OpenSSL's.
"""

from __future__ import annotations

from importlib import import_module

from aero.config.roles import ServerConfig

#: Imported by functions of aero and of the libraries that it uses; tests/server/test_late.py compares them.
ANY_TIME = (
    "Crypto.Cipher._EKSBlowfish",
    "Crypto.Cipher._mode_ctr",
    "Crypto.Cipher._mode_ecb",
    "Crypto.Hash.SHA256",
    "Crypto.PublicKey.ECC",
    "Crypto.Signature.DSS",
    "aero.allow",
    "aero.core.packing",
    "aero.net.threads",
    "aero.net.tls",
    "aero.net.websocket",
    "aero.server.links.selfmade",
    "aero.server.links.words",
    "aero.server.policy.users",
    "base64",
    "binascii",
    "calendar",
    "encodings.idna",
    "fcntl",
    "hashlib",
    "hmac",
    "ipaddress",
    "json",
    "random",
    "re",
    "ssl",
    "tempfile",
    "termios",
    "unicodedata",
    "urllib.parse",
)
FOR_MUX = ("aero.server.httpmux.secure", "aero.server.httpmux.server")
FOR_API = ("aero.server.api.app", "aero.server.api.openapi")
FOR_HOOKS = (
    "aero.server.registry.asking",
    "aero.server.watch.hooks",
    "aero.server.watch.posting",
    "gevent.ssl",
    "http.client",
)
FOR_SOCKETS = ("aero.server.registry.doors.sockets",)


def load(config: ServerConfig) -> None:
    """Imports all that a server with this configuration may need."""
    parts = (
        (ANY_TIME, True),
        (FOR_MUX, config.mux or config.mux_tls),
        (FOR_API, config.api),
        (FOR_HOOKS, config.hooks or config.hook_asks),
        (FOR_SOCKETS, config.listen_unix),
    )
    for names, wanted in parts:
        for name in names if wanted else ():
            import_module(name)
