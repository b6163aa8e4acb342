"""The protocol and nothing else: bytes in, bytes out, time passed in; no sockets, clocks or greenlets."""
