"""End-to-end tests: real processes of aero, real programs on both sides. Nothing here imports aero."""
