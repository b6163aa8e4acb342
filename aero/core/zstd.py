"""zstd (RFC 8878) by whatever this host has: two ways that read each other's frames, and the choice between them.

This module knows buffers. What is compressed, and when, is packing.py's business. Nothing here is imported before a
worker's target or a server asks for it.

| codec | what it is | start-up |
|---|---|---|
| library | the system's libzstd.so.1, by ctypes: straight from one buffer into another | 1 ms |
| module | compression.zstd of Python 3.14, or the package backports.zstd, which an archive may bring | 11 ms |
"""

from __future__ import annotations

from typing import Any, Callable, Protocol

from aero.errors import HostError

#: The default of zstd itself. On JSON and logs level 1 saves a tenth of the time and costs 4 to 6 % more bytes.
LEVEL = 3
#: Every frame begins so. What libraries read besides (frames to skip, formats before 1.0) is not for peers to choose.
MAGIC = b"\x28\xb5\x2f\xfd"
_WINDOW_LOG = 17  # of what is unpacked: 128 KiB, as much as a frame may hold (packing.PIECE_BYTES)


class Codec(Protocol):
    """Makes and reads frames that know of nothing before them."""

    @property
    def description(self) -> str:
        """The library and its version, for the log."""

    @property
    def held_bytes(self) -> int:
        """What its contexts take."""

    def pack(self, plain: memoryview, out: memoryview) -> int:
        """Writes one frame of ``plain``, a byte or more, to the head of ``out``; its length, 0 where it does not fit.

        Both are writable.
        """

    def unpack(self, packed: memoryview, out: memoryview) -> bool:
        """Fills ``out``, a byte or more, from a frame; False where that is not one frame of just so many bytes.

        What ``out`` has then is garbage.
        """


class Library:
    """libzstd by ctypes."""

    def __init__(self) -> None:
        """Loads the library. Raises HostError."""
        try:
            import ctypes
            from ctypes import c_int, c_size_t, c_void_p

            # PyDLL keeps the interpreter lock, as for the AEAD: a piece takes 0.4 ms at the most.
            functions = ctypes.PyDLL("libzstd.so.1")

            def function(name: str, result: Any, *arguments: Any) -> Any:
                found = functions[name]
                found.restype, found.argtypes = result, arguments
                return found

            buffers = (c_void_p, c_size_t, c_void_p, c_size_t)
            version: bytes = function("ZSTD_versionString", ctypes.c_char_p)()
            self._compress = function("ZSTD_compress2", c_size_t, c_void_p, *buffers)
            self._decompress = function("ZSTD_decompressDCtx", c_size_t, c_void_p, *buffers)
            self._frame_bytes = function("ZSTD_findFrameCompressedSize", c_size_t, c_void_p, c_size_t)
            self._sizes = (
                function("ZSTD_sizeof_CCtx", c_size_t, c_void_p),
                function("ZSTD_sizeof_DCtx", c_size_t, c_void_p),
            )
            self._free = (
                function("ZSTD_freeCCtx", c_size_t, c_void_p),
                function("ZSTD_freeDCtx", c_size_t, c_void_p),
            )
            self._contexts = (
                function("ZSTD_createCCtx", c_void_p)(),
                function("ZSTD_createDCtx", c_void_p)(),
            )
            set_parameter = function("ZSTD_CCtx_setParameter", c_size_t, c_void_p, c_int, c_int)
        except (ImportError, OSError, AttributeError) as error:
            raise HostError(f"libzstd.so.1 does not load: {error}") from error
        self.description = f"libzstd {version.decode()}"
        self._from_buffer, self._addressof = ctypes.c_char.from_buffer, ctypes.addressof
        if not all(self._contexts):
            raise HostError("libzstd has no memory")
        set_parameter(self._contexts[0], 100, LEVEL)  # ZSTD_c_compressionLevel

    def __del__(self) -> None:
        for free, context in zip(getattr(self, "_free", ()), getattr(self, "_contexts", ())):
            free(context)

    @property
    def held_bytes(self) -> int:
        """What its contexts take."""
        return sum(size(context) for size, context in zip(self._sizes, self._contexts))

    def pack(self, plain: memoryview, out: memoryview) -> int:
        """See `Codec.pack`."""
        count: int = self._compress(
            self._contexts[0],
            self._addressof(self._from_buffer(out)),
            len(out),
            self._addressof(self._from_buffer(plain)),
            len(plain),
        )
        return count if count <= len(out) else 0  # errors are the largest numbers that there are

    def unpack(self, packed: memoryview, out: memoryview) -> bool:
        """See `Codec.unpack`."""
        address: int | bytes
        try:
            address = self._addressof(self._from_buffer(packed))
        except (TypeError, ValueError):  # ctypes gives no address of what is read-only or empty
            address = bytes(packed)
        if self._frame_bytes(address, len(packed)) != len(packed):
            return False
        count = self._decompress(
            self._contexts[1], self._addressof(self._from_buffer(out)), len(out), address, len(packed)
        )
        return bool(count == len(out))


class Module:
    """compression.zstd, or backports.zstd, which is the same for older Pythons."""

    def __init__(self) -> None:
        """Imports the module. Raises HostError."""
        module = _imported("compression.zstd") or _imported("backports.zstd")
        if module is None:
            raise HostError("neither compression.zstd nor backports.zstd is here")
        self.description = f"{module.__name__} (libzstd {module.zstd_version})"
        self._error: type[Exception] = module.ZstdError
        self._packer = module.ZstdCompressor(LEVEL)
        self._whole = module.ZstdCompressor.FLUSH_FRAME
        self._unpacker = module.ZstdDecompressor
        self._options = {module.DecompressionParameter.window_log_max: _WINDOW_LOG}

    @property
    def held_bytes(self) -> int:
        """What its contexts take."""
        return 1024 * 1024  # it does not tell; this is what the library's own take, and the copies

    def pack(self, plain: memoryview, out: memoryview) -> int:
        """See `Codec.pack`."""
        packed = self._packer.compress(plain, self._whole)
        count = len(packed)
        if count > len(out):
            return 0
        out[:count] = packed
        return count

    def unpack(self, packed: memoryview, out: memoryview) -> bool:
        """See `Codec.unpack`."""
        unpacker = self._unpacker(options=self._options)
        try:
            plain = unpacker.decompress(packed, len(out) + 1)
        except self._error:
            return False
        if len(plain) != len(out) or not unpacker.eof or unpacker.unused_data:
            return False
        out[:] = plain
        return True


def _imported(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        return None


_MAKERS: dict[str, Callable[[], Codec]] = {"library": Library, "module": Module}
CODECS: tuple[str, ...] = tuple(_MAKERS)


def choose(name: str = "") -> Codec:
    """The codec of this name, or the first that works here. Raises HostError with all reasons where none does."""
    reasons = []
    for each in (name,) if name else CODECS:
        try:
            codec = _MAKERS[each]()
            _self_test(codec)
            return codec
        except HostError as error:
            reasons.append(str(error))
    raise HostError("; ".join(reasons))


def _self_test(codec: Codec) -> None:
    """Raises HostError where the codec does not give back what it got."""
    plain, out, back = (memoryview(bytearray(4096)) for _ in range(3))
    plain[:] = bytes(range(64)) * 64
    count = codec.pack(plain, out)
    if not 0 < count < 1024 or not codec.unpack(out[:count], back) or back != plain:
        raise HostError(f"{codec.description} fails its self-test")
