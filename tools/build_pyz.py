"""Builds aero.pyz; ./build_pyz.sh is the way to start it. What it makes and why stands in docs/PYZ.md."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyz import archive, compilers, contents, targets, wheels
from pyz.targets import Target

CHECKOUT = Path(__file__).resolve().parent.parent
BUILD = CHECKOUT / ".build"
LOCK = CHECKOUT / "requirements" / "pyz.lock"


def build(chosen: list[Target], extras: list[str]) -> bytes:
    """Return the archive for these targets, with these of targets.EXTRAS. Raises wheels.BuildError."""
    lock = wheels.read_lock(LOCK)
    libraries = {target: wheels.locked(lock, target, target.pins(extras)) for target in chosen}
    pythons = sorted({target.python for target in chosen})
    tools = {t: wheels.locked(lock, t, t.compiler_pins()) for t in targets.compiler_targets(pythons)}
    needs = {t: libraries.get(t, []) + tools.get(t, []) for t in [*libraries, *tools]}
    wheels.collect(BUILD, lock, needs)
    compiler = {t.python: compilers.Compiler(BUILD / "wheels" / w[0], BUILD) for t, w in tools.items()}

    aero = contents.aero_sources(CHECKOUT)
    members = {name: content for name, content in aero.items() if name.startswith(contents.BOOT)}
    members["__main__.py"] = members.pop(contents.ENTRY)
    roots = contents.imported_by(aero)
    parts = Parts({"source": contents.without_boot(aero)})
    for target in chosen:
        files = contents.library_files([BUILD / "wheels" / wheel for wheel in libraries[target]], roots)
        code = byte_code(compiler[target.python], {p: c for p, c in files.items() if p.endswith(".py")})
        code.update(byte_code(compiler[target.python], contents.standins(CHECKOUT)))
        code.update(byte_code(compiler[target.python], contents.without_boot(aero)))
        shared = {path: content for path, content in files.items() if path.endswith(".abi3.so")}
        native = {
            path: content for path, content in files.items() if path.endswith(".so") and path not in shared
        }
        parts.add(target, code, shared, native)
        boot = byte_code(compiler[target.python], {name: aero[name] for name in contents.BOOT_EARLY})
        members.update({f"boot/{target.abi}/{path}": content for path, content in boot.items()})
    streams = parts.streams()
    for stream in streams:
        members.update(stream.listings(parts.companions))
    members.update(packed(compiler[pythons[0]], streams))
    return archive.assemble(members)


class Parts:
    """Groups of files, what each target needs of them, and how they are best compressed together."""

    def __init__(self, groups: dict[str, dict[str, bytes]]) -> None:
        """Begin with groups (name → path → content) that stand for themselves."""
        self.groups = groups
        self.companions: dict[str, list[str]] = {}
        self._together: dict[tuple[str, str], list[str]] = {("", name): [name] for name in groups}

    def add(
        self, target: Target, code: dict[str, bytes], shared: dict[str, bytes], native: dict[str, bytes]
    ) -> None:
        """Add a target: byte code, libraries that serve every Python of its platform, and those for it alone."""
        code_name = self._add("", neighbours(target.python), target.abi, code)
        shared_name = self._add(target.machine, "shared", target.platform, shared)
        self._add(target.machine, neighbours(target.python), target.tag, native)
        self.companions[target.tag] = [code_name, shared_name]

    def _add(self, machine: str, kind: str, name: str, files: dict[str, bytes]) -> str:
        """Add a group; return its name, with a number where another version of a library has taken it."""
        wanted, number = name, 1
        while self.groups.get(name, files) != files:
            number += 1
            name = f"{wanted}.{number}"
        if name not in self.groups:
            self.groups[name] = files
            self._together.setdefault((machine, kind), []).append(name)
        return name

    def streams(self) -> list[archive.Stream]:
        """Return everything, in streams of groups that resemble each other."""
        return [
            archive.Stream(machine, {name: self.groups[name] for name in names})
            for (machine, _), names in self._together.items()
        ]


def neighbours(python: str) -> str:
    """Return a name for the two Pythons whose parts are compressed together.

    A quarter less than alone; three together gain half as much again, and take that much longer to unpack.
    """
    return f"pair {targets.PYTHONS.index(python) // 2}"


def byte_code(compiler: compilers.Compiler, tree: dict[str, bytes]) -> dict[str, bytes]:
    """Return the tree with every .py compiled, and the rest as it is."""
    sources = {path: content for path, content in tree.items() if path.endswith(".py")}
    rest = {path: content for path, content in tree.items() if path not in sources}
    return {**compiler.compile(sources), **rest}


def packed(compiler: compilers.Compiler, streams: list[archive.Stream]) -> dict[str, bytes]:
    """Return the streams as members of the archive. What was compressed before comes from disk."""
    kept = BUILD / "packed"
    kept.mkdir(exist_ok=True)

    def pack(stream: archive.Stream) -> bytes:
        plain, filters = stream.content(), stream.filters()
        path = kept / hashlib.sha256(repr((filters, hashlib.sha256(plain).digest())).encode()).hexdigest()
        if not path.exists():
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(compiler.pack(plain, filters))
            fresh.replace(path)
        return path.read_bytes()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        members = {stream.member: member for stream, member in zip(streams, pool.map(pack, streams))}
    compilers.prune(kept)
    return members


def relock() -> None:
    """Write the lock file anew for every target, extra and compiler."""
    wishes = []
    for libc in targets.PLATFORMS:
        for target in targets.wide(libc):
            pins = target.pins(targets.EXTRAS)
            del pins[targets.STABLE]
            wishes.append((target, pins))
        for machine in targets.MACHINES:
            oldest = Target(targets.PYTHONS[0], machine, libc)
            wishes.append((oldest, {targets.STABLE: oldest.pins(targets.EXTRAS)[targets.STABLE]}))
    for machine in targets.MACHINES:
        wishes += [(t, t.compiler_pins()) for t in targets.compiler_targets(targets.PYTHONS, machine)]
    wheels.relock(BUILD, wishes, LOCK)


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="build_pyz.sh", description="Build aero.pyz and SHA256SUMS.")
    parser.add_argument("--host", action="store_true", help="for this interpreter only: small and quick")
    parser.add_argument("--musl", action="store_true", help="for musl Linux instead of glibc")
    parser.add_argument(
        "--with-openssl", action="append_const", dest="extras", const="openssl", help="add cryptography"
    )
    parser.add_argument(
        "--with-zstd", action="append_const", dest="extras", const="zstd", help="add what compression needs"
    )
    parser.add_argument("--output", type=Path, default=CHECKOUT / "aero.pyz", help="where to write it")
    parser.add_argument(
        "--relock", action="store_true", help="write requirements/pyz.lock anew; builds nothing"
    )
    asked = parser.parse_args()
    try:
        if asked.relock:
            relock()
            return 0
        chosen = [targets.host()] if asked.host else targets.wide("musl" if asked.musl else "gnu")
        whole = build(chosen, asked.extras or [])
    except wheels.BuildError as error:
        print(f"build_pyz: {error}", file=sys.stderr)
        return 1
    output: Path = asked.output
    fresh = output.with_name(f".{output.name}.{os.getpid()}")  # whoever runs the old one keeps it
    fresh.write_bytes(whole)
    fresh.chmod(0o755)
    fresh.replace(output)
    digest = hashlib.sha256(whole).hexdigest()
    (output.parent / "SHA256SUMS").write_text(f"{digest}  {output.name}\n")
    print(f"{digest}  {output.name} ({len(whole)} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
