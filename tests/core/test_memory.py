"""Buffers that cost nothing until they are written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aero.core.memory import pages

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_not_written_is_not_there() -> None:
    code = (
        "from aero.core.memory import pages\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1])\n"
        "before = resident(); held = [pages(1 << 20) for _ in range(64)]; asked = resident() - before\n"
        "for each in held: each[:] = b'x' * (1 << 20)\n"
        "written = resident() - before; del each, held; print(asked, written, resident() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    asked, written, freed = (int(each) * os.sysconf("SC_PAGE_SIZE") >> 20 for each in done.stdout.split())
    assert asked < 8 and written >= 64 and freed < 8, done.stderr


def test_it_is_zero_and_writable() -> None:
    view = memoryview(pages(1000))
    assert len(view) == 1000 and not any(view) and not view.readonly
    view[10:13] = b"abc"
    assert bytes(view[9:14]) == b"\0abc\0"
