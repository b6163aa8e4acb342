"""AeRO-proxy: any TCP service behind NAT, reachable through one encrypted multiplexed link."""

__version__ = "0.1.0"
