"""Nothing is left to import for a server that has become somebody else, whatever it is asked to do by then."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from aero.server import late
from tests.test_architecture import MODULES, PACKAGE, imports, inside, is_module, module_name

#: What a server runs; the rest is a worker's, the command line's or the archive's.
SERVERS = {"aero.core", "aero.host", "aero.net", "aero.server", "aero.address", "aero.logs", "aero.limits"}
#: Imported by functions that a server has called by then, or never calls.
ELSEWHERE = {
    "_hashlib",  # by --aead openssl, chosen before
    "aero.core.aead.cryptography",
    "aero.core.aead.openssl",
    "aero.net.proxy",  # who dials
    "aero.net.trust",
    "aero.server.stepdown",  # which loads them
    "backports",  # by zstd, which is loaded before; no server needs it to be there
    "compression",
    "cryptography",
    "tomli",  # the users' file, which was read before
    "tomllib",
}


def within_functions() -> set[str]:
    """The modules that functions of a server import."""
    found = set()
    for path in MODULES:
        if not inside(module_name(path), SERVERS):
            continue
        lines = {
            line
            for each in ast.walk(ast.parse(path.read_text()))
            if isinstance(each, ast.FunctionDef)
            for line in range(each.lineno, (each.end_lineno or 0) + 1)
        }
        for line, name in imports(path):
            if line in lines:
                found.add(name)
    return found


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Every module of a process that has loaded all."""
    names = [name for kind in vars(late) if kind.isupper() for name in getattr(late, kind)]
    code = f"""
import sys, importlib, aero.server.app
from aero.core.aead.choose import choose
choose("pycryptodome")
for name in {names!r}: importlib.import_module(name)
print(*sys.modules, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_what_functions_import_is_loaded_before(loaded: set[str]) -> None:
    missing = {
        name
        for name in within_functions()
        if name not in loaded and not (name.rpartition(".")[0] in loaded and not is_module(name))
    }
    assert {name for name in missing if not inside(name, ELSEWHERE)} == set()
