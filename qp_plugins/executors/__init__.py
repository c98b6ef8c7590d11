"""Executors: where the units of a run are called."""
