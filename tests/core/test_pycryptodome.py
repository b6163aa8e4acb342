"""How pycryptodome is loaded, and its scrypt beside the interpreter's."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from aero.core.pycryptodome import scrypt

# What starts a program, or is imported for nothing, ends the interpreter with 3.
_WATCHED = """
import sys
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.system"):
        sys.exit(3)
sys.addaudithook(watch)
from aero.core import spake2plus, stretch
stretch.stretch("code", "")
unwanted = {"cffi", "pycparser", "ctypes.util", "subprocess", "platform", "hmac", "hashlib"} & set(sys.modules)
print(*unwanted)
import ctypes.util
import hmac
sys.exit(ctypes.util.find_library.__module__ != "ctypes.util" or not hasattr(hmac, "new"))
"""


def test_it_starts_no_program_and_brings_no_cffi() -> None:
    done = subprocess.run([sys.executable, "-c", _WATCHED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_scrypt_is_the_interpreters() -> None:
    password, salt = b"code", b"salt\0\xff"
    expected = hashlib.scrypt(password, salt=salt, n=2**10, r=8, p=1, dklen=48)
    assert scrypt(password, salt, 48, 2**10, 8, 1) == expected
