"""How pycryptodome is loaded, and its scrypt beside the interpreter's."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from aero.core import stretch

# What starts a program, or is imported for nothing, ends the interpreter with 3.
_WATCHED = """
import sys
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.system"):
        sys.exit(3)
sys.addaudithook(watch)
from aero.core import spake2plus, stretch
stretch.stretch("code", "")
unwanted = {"cffi", "pycparser", "ctypes.util", "subprocess", "platform", "Crypto.Protocol.KDF"} & set(sys.modules)
print(*unwanted)
import ctypes.util
sys.exit(ctypes.util.find_library.__module__ != "ctypes.util")
"""


def test_it_starts_no_program_and_brings_no_cffi() -> None:
    done = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_scrypt_is_the_same_where_the_interpreter_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (b"code", b"salt\0\xff", 48, 2**10, 8, 1)
    ours = stretch.scrypt(*arguments)
    monkeypatch.delattr(hashlib, "scrypt")
    assert stretch.scrypt(*arguments) == ours
    assert len(ours) == 48
