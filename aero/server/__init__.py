"""The server role: registry of workers, leases, listeners."""
