"""Imports everything from memory, for hosts without any folder to put libraries in. Touches no disk.

The parts live in anonymous files (memfd): one for all byte code, one for each library that is loaded. Their
descriptors stay open for life: dlopen knows a library by its path, /proc/self/fd/N, so under a reused number it
would give back the library that was there before.
"""

from __future__ import annotations

import errno
import marshal
import os
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from types import ModuleType

from aero.boot.parts import Parts

PYC_HEADER_BYTES = 16  # PEP 552
MFD_CLOEXEC, MFD_NOEXEC_SEAL = 1, 8  # memfd_create(2)
SYSCALL_NUMBERS = {"x86_64": 319, "aarch64": 279}

# A path that no file has, for module.__file__ and what is derived from it.
NOWHERE = "/memory/"

# pycryptodome loads its C libraries by path; this function of that module says which.
CRYPTO_LOADER, CRYPTO_PATH = "Crypto.Util._raw_api", "pycryptodome_filename"


def memory_file(name: str) -> int:
    """Return the descriptor of a new anonymous file. Raises OSError, also where the kernel knows no such thing.

    A kernel that was told so makes only files that can't be run as programs; ours need not be.
    """
    try:
        return _memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the kernel is older than that flag
            raise
        return _memfd_create(name, MFD_CLOEXEC)


def _memfd_create(name: str, flags: int) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, flags)
    import ctypes  # a Python that was built on glibc older than 2.27 runs on newer kernels all the same

    number = SYSCALL_NUMBERS.get(os.uname().machine, -1)
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(number, name.encode(), flags)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


class Importer(Loader, MetaPathFinder):
    """A finder and loader for sys.meta_path: modules by byte code or library, packages, and their data files."""

    def __init__(self, parts: Parts) -> None:
        """Unpack the parts. Raises OSError where the kernel offers no anonymous files."""
        self._store = memory_file("aero")
        self._places: dict[str, tuple[int, int]] = {}
        self._libraries: dict[str, str] = {}
        offset = 0
        with open(self._store, "wb", closefd=False) as store:
            for part, content in parts.contents():
                self._places[part.path] = (offset, part.size)
                offset += store.write(content)

    def _read(self, path: str) -> bytes:
        offset, size = self._places[path]
        return os.pread(self._store, size, offset)

    def _library(self, path: str) -> str:
        """Return a path under which dlopen finds this library."""
        if path not in self._libraries:
            descriptor = memory_file(os.path.basename(path))
            with open(descriptor, "wb", closefd=False) as file:
                file.write(self._read(path))
            self._libraries[path] = f"/proc/self/./fd/{descriptor}"  # pycryptodome looks for a dot in a path
        return self._libraries[path]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import that module, or None where it is not in the archive."""
        stem = name.replace(".", "/")
        for path_of in (f"{stem}/__init__.pyc", f"{stem}.pyc", f"{stem}/__init__.py", f"{stem}.py"):
            if path_of in self._places:
                spec = ModuleSpec(name, self, origin=NOWHERE + path_of)
                spec.has_location = True
                if "/__init__." in path_of:
                    spec.submodule_search_locations = [NOWHERE + stem]
                return spec
        for suffix in EXTENSION_SUFFIXES:
            if stem + suffix in self._places:
                library = self._library(stem + suffix)
                return ModuleSpec(name, ExtensionFileLoader(name, library), origin=library)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Ask for an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's byte code."""
        spec = module.__spec__
        if spec is None or spec.origin is None:
            raise ImportError(f"{module.__name__} was not found by this loader")
        content = self.get_data(spec.origin)
        if spec.origin.endswith(".pyc"):
            code = marshal.loads(content[PYC_HEADER_BYTES:])  # noqa: S302 - from our archive
        else:
            code = compile(content, spec.origin, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - this is what a loader does
        if module.__name__ == CRYPTO_LOADER:
            setattr(module, CRYPTO_PATH, self._crypto_path)

    def _crypto_path(self, folders: list[str], name: str) -> str:
        path = "/".join([*folders, name])
        return self._library(path) if path in self._places else ""

    def get_data(self, path: str) -> bytes:
        """Return a file of the archive's tree; pkgutil.get_data ends here. Raises OSError."""
        if path[: len(NOWHERE)] != NOWHERE or path[len(NOWHERE) :] not in self._places:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._read(path[len(NOWHERE) :])
