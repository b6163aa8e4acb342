"""Sockets and greenlets: links, dialling, and the pumps between sockets and streams."""
