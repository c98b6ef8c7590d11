"""Observers: who hears what a run does."""
