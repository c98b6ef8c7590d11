"""Adapters that put Atlas's subsystems on the core; they stand on its public names only."""
