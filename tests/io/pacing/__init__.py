"""Tests of `venice_async/io/pacing/`."""
