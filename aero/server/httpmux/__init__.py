"""The HTTP mux: visitors reach targets by path or by host name. docs/mux.md tells what it does and why so."""
