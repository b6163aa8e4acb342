"""The page: its parts, put together to one document that needs nothing else, and the policy that holds it to that."""

from __future__ import annotations

import base64
import hashlib
import pkgutil
import re

from aero.server.api.replies import Reply

PACKAGE = "aero.server.api"
STYLES = ("ui/page.css",)
#: In this order, as one script: words and numbers first, then what uses them.
SCRIPTS = (
    "ui/words.js",
    "ui/figures.js",
    "ui/server.js",
    "ui/plot.js",
    "ui/view.js",
    "ui/history.js",
    "ui/page.js",
)


def page(link_port: int, has_auth: bool) -> Reply:
    """The document with its Content-Security-Policy.

    It tells how to start a first worker: where to dial, and whether that needs a code.
    """
    html = _HTML
    for mark, content in (
        ("%LINK_PORT%", str(link_port)),
        ("%AUTH%", "yes" if has_auth else ""),
        ("/*STYLE*/", _STYLE),
        ("/*SCRIPT*/", _SCRIPT),
    ):
        html = html.replace(mark, content)
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
        f"img-src data:; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; require-trusted-types-for 'script'"
    )
    headers = (("Content-Security-Policy", policy), ("Cross-Origin-Opener-Policy", "same-origin"))
    return Reply(200, "text/html; charset=utf-8", html.encode(), headers)


def _part(name: str) -> str:
    """A file of the package, also from inside an archive."""
    data = pkgutil.get_data(PACKAGE, name)
    if data is None:
        raise FileNotFoundError(f"{PACKAGE} lacks {name}")
    # A browser hashes what stands between the tags, with line ends as they are after reading: line feeds.
    return re.sub(r"\r\n?", "\n", data.decode())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# Read once, with the module: a server that gives up root's rights may not get to its files any more.
_STYLE = "\n".join(map(_part, STYLES))
_SCRIPT = '"use strict";\n' + "\n".join(map(_part, SCRIPTS))
_HTML = _part("ui/page.html")
