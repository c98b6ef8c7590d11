"""Fallbacks: what stands in for a failed unit."""
