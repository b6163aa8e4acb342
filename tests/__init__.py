"""Tests of AeRO-proxy: each folder mirrors one of aero/; e2e runs real processes."""
