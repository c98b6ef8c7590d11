"""Caches: where results are found again."""
