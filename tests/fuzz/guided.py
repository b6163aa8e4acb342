"""A coverage-guided fuzzer in a page: inputs that reach new lines are kept and changed again.

    python -m tests.fuzz.guided --minutes 30 [TARGET...]
    python -m tests.fuzz.guided --prune [TARGET...]

What is kept goes to tests/fuzz/corpus/TARGET, which the normal suite replays. A finding is written there too, beside
the error's traceback, and ends the run with exit code 1. ``--prune`` deletes what reaches nothing that smaller inputs
do not, findings apart. Knows bytes and lines, nothing of the targets.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

CORPUS = Path(__file__).resolve().parent / "corpus"
PACKAGE = str(Path(__file__).resolve().parents[2] / "aero")
MAX_BYTES = 2048
MOST_KEPT = 400  # inputs of one target: the suite replays all of them within a second

Target = Callable[[bytes], None]
Edge = tuple[str, int, int]


class Coverage:
    """Which steps from line to line of our own code a call takes."""

    def __init__(self) -> None:
        self.edges: set[Edge] = set()

    def of(self, target: Target, data: bytes) -> set[Edge]:
        self.edges = set()
        sys.settrace(self._on_call)
        try:
            target(data)
        finally:
            sys.settrace(None)
        return self.edges

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE):
            return None
        before = 0

        def on_line(inner: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            self.edges.add((name, before, inner.f_lineno))
            before = inner.f_lineno
            return on_line

        return on_line


def changed(data: bytes, others: list[bytes], words: list[bytes], dice: random.Random) -> bytes:
    """Some random changes: bits, bytes, numbers, known words, pieces of other inputs."""
    out = bytearray(data)
    for _ in range(1 << dice.randrange(4)):
        at = dice.randrange(len(out) + 1)
        what = dice.randrange(8)
        if what == 0 and out:
            out[at % len(out)] ^= 1 << dice.randrange(8)
        elif what == 1 and out:
            out[at % len(out)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        elif what == 2:
            del out[at : at + dice.randrange(1, 17)]
        elif what == 3:
            out[at:at] = dice.randbytes(dice.randrange(1, 9))
        elif what == 4:
            out[at:at] = dice.choice(words)
        elif what == 5:
            other = dice.choice(others)
            first = dice.randrange(len(other) + 1)
            out[at:at] = other[first : first + dice.randrange(1, 129)]
        elif what == 6:
            width = dice.choice((2, 4, 8))
            out[at : at + width] = dice.choice((0, 1, dice.getrandbits(8), (1 << 8 * width) - 1)).to_bytes(
                width, "big"
            )
        else:
            out[at:at] = out[at : at + dice.randrange(1, 65)]
    return bytes(out[:MAX_BYTES])


def corpus(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]


def fuzz(
    name: str, target: Target, seeds: list[bytes], words: list[bytes], seconds: float, seed: int
) -> bool:
    """Fuzzes for a while; False when something was found."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    dice, coverage = random.Random(seed), Coverage()
    kept: list[bytes] = []
    seen: set[Edge] = set()
    runs = 0
    waiting = [*corpus(name), *seeds]
    until = time.monotonic() + seconds
    while waiting or time.monotonic() < until:
        data = waiting.pop() if waiting else changed(dice.choice(kept), kept, words, dice)
        runs += 1
        try:
            edges = coverage.of(target, data)
        except Exception:
            found = folder / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
            found.with_suffix(".bin").write_bytes(data)
            found.with_suffix(".txt").write_text(traceback.format_exc())
            print(f"{name}: {found} after {runs} runs\n{traceback.format_exc()}", flush=True)
            return False
        if edges - seen or not kept:
            seen |= edges
            kept.append(data)
            if len(kept) <= MOST_KEPT:
                (folder / f"{hashlib.sha256(data).hexdigest()[:12]}.bin").write_bytes(data)
    print(f"{name}: {runs} runs, {len(seen)} steps, {len(kept)} inputs kept", flush=True)
    return True


def prune(name: str, target: Target) -> None:
    """Deletes inputs that add nothing."""
    coverage = Coverage()
    seen: set[Edge] = set()
    paths = sorted((CORPUS / name).glob("*.bin"), key=lambda path: path.stat().st_size)
    for path in paths:
        edges = coverage.of(target, path.read_bytes())
        if edges <= seen and not path.name.startswith("found-"):
            path.unlink()
        seen |= edges
    print(f"{name}: {len(corpus(name))} of {len(paths)} inputs kept")


def main() -> int:
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--prune", action="store_true")
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    given = parser.parse_args()
    if given.prune:
        for name in given.targets:
            prune(name, TARGETS[name][0])
        return 0
    print(f"seed {given.seed}")
    share = 60 * given.minutes / len(given.targets)
    clean = [fuzz(name, *TARGETS[name], share, given.seed) for name in given.targets]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
