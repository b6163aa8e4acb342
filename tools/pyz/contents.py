"""What goes into the archive from this checkout and from the wheels, and what stays out. Paths and bytes only."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from pyz.elf import strip
from pyz.wheels import project_of, read_wheel

ENTRY = "aero/boot/entry.py"  # becomes the archive's __main__.py
# What is imported from the archive itself, before anything is unpacked; all but the rest of it at every start.
BOOT = ("aero/__init__.py", "aero/boot/")
BOOT_EARLY = (
    "aero/__init__.py",
    "aero/boot/__init__.py",
    "aero/boot/cache.py",
    "aero/boot/folders.py",
    "aero/boot/launch.py",
    "aero/boot/parts.py",
)

# gevent parts that a program on libev with the thread resolver never imports: its tests, the other event loop,
# the loops through cffi, the resolvers that need more libraries, Windows.
GEVENT_LEFT_OUT = (
    "gevent/_ffi/",
    "gevent/libev/_corecffi",
    "gevent/libev/corecffi",
    "gevent/libuv/",
    "gevent/resolver/ares",
    "gevent/resolver/cares",
    "gevent/resolver/dnspython",
    "gevent/testing/",
    "gevent/tests/",
    "gevent/win32util",
)
LEFT_OUT = {
    "gevent": GEVENT_LEFT_OUT,
    "greenlet": ("greenlet/tests/", "greenlet/platform/"),
    "cffi": ("cffi/",),  # cryptography needs its compiled part alone
}

# pycryptodome's modules for NIST curves, which it imports by a name that stands alone in a table.
CRYPTO_BY_NAME = {"Crypto.PublicKey._nist_ecc"}


def aero_sources(checkout: Path) -> dict[str, bytes]:
    """Return the package ``aero``: archive path → content, with everything that is not byte code."""
    found = {}
    for path in sorted((checkout / "aero").rglob("*")):
        name = path.relative_to(checkout).as_posix()
        if path.is_file() and "__pycache__" not in name and not name.endswith(".pyc"):
            found[name] = path.read_bytes()
    return found


def without_boot(aero: dict[str, bytes]) -> dict[str, bytes]:
    """Return what of the package is unpacked before it is imported."""
    return {path: content for path, content in aero.items() if not path.startswith(BOOT[1:])}


def standins(checkout: Path) -> dict[str, bytes]:
    """Return the small replacements for packages that our libraries import but hardly use."""
    root = checkout / "tools" / "standins"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.py"))}


def imported_by(sources: dict[str, bytes]) -> set[str]:
    """Return every dotted name that these modules (path → source) may import."""
    names: set[str] = set()
    for path, source in sources.items():
        if path.endswith(".py"):
            names |= imported(source, path.rpartition("/")[0].replace("/", "."))
    return names


@functools.cache  # one module comes in as many wheels as there are targets
def imported(source: bytes, package: str, everywhere: bool = True) -> frozenset[str]:
    """Return every dotted name that this source may import; relative imports resolve against ``package``.

    Imports inside functions count only if ``everywhere``. pycryptodome names its C libraries in strings, and loads
    some of them from functions while it is imported; those always count.
    """
    tree = ast.parse(source)
    names = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("Crypto.")
        ):
            names.add(node.value)
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(parts + ([node.module] if node.module else []))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(names)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what below this node runs when its module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import(child)


def closure(files: dict[str, bytes], roots: set[str]) -> dict[str, bytes]:
    """Return those of ``files`` that importing ``roots`` (dotted names) imports in turn."""
    modules: dict[str, str] = {}
    for path in files:
        if path.endswith((".py", ".so")):
            stem = path.rpartition("/")[2].partition(".")[0]
            parts = path.split("/")[:-1] + ([] if stem == "__init__" else [stem])
            modules[".".join(parts)] = path
    kept: dict[str, bytes] = {}
    queue = sorted(roots)
    while queue:
        name = queue.pop()
        for module in [name, *(name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1))]:
            path = modules.get(module, "")
            if path and path not in kept:
                kept[path] = files[path]
                if path.endswith(".py"):
                    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
                    queue += sorted(imported(files[path], package, everywhere=False))
    return kept


def library_files(wheels: list[Path], roots: set[str]) -> dict[str, bytes]:
    """Return what is needed of these wheels: archive path → content, libraries stripped."""
    kept: dict[str, bytes] = {}
    for wheel in wheels:
        project, _ = project_of(wheel.name)
        files = read_wheel(wheel)
        if project == "pycryptodome":
            files = closure(files, {name for name in roots if name.startswith("Crypto")} | CRYPTO_BY_NAME)
        for path, content in files.items():
            if path.startswith(LEFT_OUT.get(project, ())):
                continue
            if path.endswith(".so"):
                kept[path] = strip(content)
            elif path.endswith(".py"):
                kept[path] = content
    return kept
