"""The interpreters that compile and compress, the same bits on every machine that builds.

Byte code differs between the patch releases of one Python, and .xz streams between releases of liblzma. So
neither comes from the machine that builds. cx_Freeze's wheels carry a whole CPython in one executable, without
a standard library, meant to be put into frozen programs; the lock file pins them like every other wheel.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from pyz.wheels import BuildError

SEED = Path(__file__).resolve().parent.parent / "seed"
PACKER_PARTS = ("/_lzma.", "/liblzma-")


KEPT = 100  # results in one folder: a few wide builds' worth, some 30 MB


def prune(folder: Path) -> None:
    """Remove the oldest results of earlier builds."""
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        path.unlink()


class Compiler:
    """One interpreter, unpacked from a wheel into a folder of its own."""

    def __init__(self, wheel: Path, build: Path) -> None:
        """Unpack the wheel under ``build`` unless that was done before."""
        self.folder = build / "compilers" / wheel.name.rpartition(".")[0]
        self.program = self.folder / "compiler"
        if not self.program.exists():
            self._unpack(wheel)
        shutil.copytree(
            SEED, self.folder / "lib", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )

    def _unpack(self, wheel: Path) -> None:
        library = self.folder / "lib"
        library.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if "/bases/console-cpython-" in name:
                    program = archive.read(name)
                elif "/libcrypt-" in name or any(part in name for part in PACKER_PARTS):
                    (library / os.path.basename(name)).write_bytes(archive.read(name))
        fresh = self.folder / "compiler.new"
        fresh.write_bytes(program)
        fresh.chmod(0o755)
        fresh.replace(self.program)

    def _ask(self, kind: str, job: object) -> object:
        done = subprocess.run(
            [str(self.program)],
            input=marshal.dumps((kind, job), 2),
            stdout=subprocess.PIPE,
            env={"LD_LIBRARY_PATH": str(self.folder / "lib")},
        )
        if done.returncode:
            raise BuildError(f"{self.program} failed, see above; it needs glibc 2.17 or newer")
        return marshal.loads(done.stdout)  # noqa: S302 - our own program, of a known hash

    def compile(self, sources: dict[str, bytes]) -> dict[str, bytes]:
        """Return path → content of a .pyc for path → source.

        The .pyc are hash-based and unchecked (PEP 552). What was compiled before comes from disk.
        """
        job = [(path, sources[path]) for path in sorted(sources)]
        seed = (SEED / "__init__compiler.py").read_bytes()
        kept = self.folder / "compiled" / hashlib.sha256(seed + marshal.dumps(job, 2)).hexdigest()
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            fresh = kept.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(marshal.dumps(self._ask("compile", job), 2))
            fresh.replace(kept)
            prune(kept.parent)
        return marshal.loads(kept.read_bytes())  # noqa: S302 - we wrote it

    def pack(self, content: bytes, filters: list[dict[str, int]]) -> bytes:
        """Return the content as an .xz stream, with filters as in the module lzma."""
        return self._ask("pack", (content, filters))
