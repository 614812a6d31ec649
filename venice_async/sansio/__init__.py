"""Decides and does nothing: no network, no clock, no randomness, no files, no `async`."""
