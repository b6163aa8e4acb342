"""Reads the imports of every module and fails on an arrow against the direction of the layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "aero"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Words, numbers and texts that the layers share, each with what it may use itself.
COMMON = {
    "aero": set(),
    "aero.errors": set(),
    "aero.address": {"aero.errors"},
    "aero.allow": {"aero.address", "aero.errors"},
    "aero.endpoint": {"aero.address", "aero.errors"},
    "aero.limits": {"aero.address"},
    "aero.headers": {"aero.address", "aero.errors"},
    "aero.domains": {"aero.address", "aero.errors"},
    "aero.htpasswd": {"aero.errors"},
    "aero.proxies": {"aero.address", "aero.errors"},
    "aero.logs": {"aero.errors"},
}
ROLES = {*COMMON, "aero.config", "aero.core", "aero.host", "aero.net", "aero.net.threads"}
# What the server's rooms stand on. None of them knows an option but through aero.server.present.
GROUND = {*COMMON, "aero.core", "aero.host", "aero.net", "aero.net.threads"}
REGISTRY = {*GROUND, "aero.server.watch", "aero.server.policy", "aero.server.registry"}
#: Modules that may import each other, ``TYPE_CHECKING`` counted: a session and its streams are one machine.
FRIENDS = {("aero.core.session", "aero.core.stream")}
#: Layer → layers that it may import besides itself. A module belongs to the longest name that it begins with.
MAY_IMPORT = {
    **COMMON,
    "aero.core": {"aero.errors", "aero.address"},
    "aero.config": {
        "aero",
        "aero.errors",
        "aero.address",
        "aero.allow",
        "aero.domains",
        "aero.endpoint",
        "aero.headers",
        "aero.htpasswd",
        "aero.limits",
        "aero.proxies",
    },
    "aero.host": {"aero", "aero.errors", "aero.limits", "aero.logs"},
    "aero.net": {*COMMON, "aero.core", "aero.net.threads"},
    "aero.net.threads": {"aero.net"},
    "aero.worker": ROLES,
    # The rooms of the server, from the ground up. Nobody but the app knows ground.py or another part as a whole.
    "aero.server": set(),
    "aero.server.present": {"aero.config"},
    "aero.server.late": {"aero.config"},
    "aero.server.watch": GROUND,
    "aero.server.store": {*COMMON, "aero.net.threads"},
    "aero.server.policy": {*COMMON},
    # The users' file is a configuration of its own, with the units of all options.
    "aero.server.policy.users": {*COMMON, "aero.config", "aero.server.policy", "aero.server.policy.keys"},
    "aero.server.policy.keys": {*COMMON, "aero.config", "aero.server.policy"},
    "aero.server.registry": REGISTRY | {"aero.server.store"},
    "aero.server.links": {
        *REGISTRY,
        "aero.config",
        "aero.server.present",
        "aero.server.policy.users",
        "aero.server.store",
    },
    "aero.server.httpmux": REGISTRY | {"aero.server.store", "aero.server.present"},
    "aero.server.httpmux.urls": {*COMMON},
    "aero.server.api": REGISTRY | {"aero.server.present", "aero.server.store", "aero.server.httpmux.urls"},
    "aero.server.ground": REGISTRY | {"aero.server.store", "aero.server.present"},
    "aero.server.app": {
        *REGISTRY,
        "aero.config",
        "aero.server.present",
        "aero.server.store",
        "aero.server.ground",
        "aero.server.links",
        "aero.server.httpmux",
        "aero.server.httpmux.urls",
        "aero.server.api",
        "aero.server.stepdown",
    },
    "aero.server.stepdown": {*COMMON, "aero.config", "aero.host", "aero.server.late"},
    # What aero.pyz runs before it can import anything native; it hands over at its end.
    "aero.boot": {"aero", "aero.cli"},
}
#: These stand above all the others, and may import what they need.
ABOVE = {"aero.cli", "aero.__main__"}

NOT_IN_CORE = {"gevent", "socket", "select", "ssl", "time", "logging", "os"}
NOT_IN_WORKER = {
    "bottle",
    "dataclasses",
    "gevent.lock",
    "gevent.pywsgi",
    "sqlite3",
    "ssl",
    "aero.proxies",
    "aero.server",
    "aero.worker.attempt",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports at any depth, also inside functions.

    A name from one of our own modules counts as that module.
    """
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                ours = inside(full, {"aero"})
                yield node.lineno, origin if ours and not is_module(full) else full


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def layer(name: str) -> str:
    """The layer that a module of aero belongs to; its own name where it belongs to none."""
    parts = name.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next((known for known in names if known in MAY_IMPORT or known in ABOVE), name)


def inside(name: str, packages: set[str]) -> bool:
    """Whether a module is one of the packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def complaints(path: Path, packages: set[str], rule: str) -> list[str]:
    where = path.relative_to(PACKAGE.parent)
    return [f"{where}:{line}: {name}: {rule}" for line, name in imports(path) if inside(name, packages)]


def test_every_module_belongs_to_a_layer() -> None:
    known = {*MAY_IMPORT, *ABOVE}
    strangers = [name for name in map(module_name, MODULES) if layer(name) not in known]
    assert not strangers, f"say in this file what they may import: {strangers}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    own = layer(module_name(path))
    if own in ABOVE:
        return
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {own} must not import {name}"
        for line, name in imports(path)
        if inside(name, {"aero"}) and layer(name) not in {own, *MAY_IMPORT[own]}
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """A circle is what cannot be read, tested or taken out by itself. Names that only types need count as well."""
    names = {module_name(path) for path in MODULES}
    arrows = {
        module_name(path): {name for _, name in imports(path) if name in names} - {module_name(path)}
        for path in MODULES
    }
    for one, other in FRIENDS:
        arrows[one].discard(other)
    before = 0
    while len(arrows) != before:  # who imports nobody that is left, or is imported by nobody, is in no circle
        before = len(arrows)
        imported = {name for wanted in arrows.values() for name in wanted}
        arrows = {
            name: wanted for name, wanted in arrows.items() if name in imported and wanted & set(arrows)
        }
    circles = {name: sorted(wanted & set(arrows)) for name, wanted in arrows.items()}
    assert not circles, f"these import each other: {circles}"


@pytest.mark.parametrize("room", ["core", "net"])
def test_the_protocol_and_the_sockets_do_not_know_the_ground(room: str) -> None:
    wrong = [
        complaint
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for complaint in complaints(path, {"aero.server"}, "what roles share is passed in, piece by piece")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=module_name)
def test_core_does_no_io_and_knows_no_clock(path: Path) -> None:
    wrong = complaints(path, NOT_IN_CORE, "the core is bytes in, bytes out, and now passed in")
    assert not wrong, "\n".join(wrong)


def test_errors_live_in_one_tree() -> None:
    """Boot has its own: it must not import what may not be unpacked yet."""
    strays = [
        f"{path.relative_to(PACKAGE.parent)}:{node.lineno}: {node.name}"
        for path in MODULES
        if module_name(path) != "aero.errors" and not inside(module_name(path), {"aero.boot"})
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith(("Exception", "Error")) for base in node.bases)
    ]
    assert not strays, f"these belong into aero/errors.py: {strays}"


def test_every_class_has_a_name_of_its_own() -> None:
    """Server and worker each have their half of a registration and a ground; all else that is alike gets two names."""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module_name(path))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert set(twice) <= {"Ground", "Registration"}, f"one word for two things: {twice}"


def test_boot_needs_the_standard_library_only() -> None:
    """It is imported here without a single installed package in reach."""
    names = [module_name(path) for path in sorted((PACKAGE / "boot").rglob("*.py"))]
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import {', '.join(names)}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_entry_may_patch_the_standard_library(path: Path) -> None:
    if module_name(path) == "aero.__main__":
        return
    wrong = complaints(path, {"gevent.monkey"}, "only aero.__main__ may patch")
    assert not wrong, "\n".join(wrong)


def test_a_worker_stays_small() -> None:
    code = "import sys, aero.worker.app; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heavy = [name for name in done.stdout.split() if inside(name, NOT_IN_WORKER)]
    assert not heavy, f"import aero.worker.app carries {heavy}"


def test_every_error_stands_in_one_tree() -> None:
    """Exception classes are in aero.errors, but for those of boot, which must not import anything."""
    for path in MODULES:
        if module_name(path) == "aero.errors" or layer(module_name(path)) == "aero.boot":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            wrong = [base for base in bases if base.endswith(("Error", "Exception"))]
            assert not wrong, f"{path.name}: {wrong} is the base of a class that belongs in aero/errors.py"
