"""Strategies: which of the ready units goes first."""
