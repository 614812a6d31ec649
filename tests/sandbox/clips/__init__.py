"""Tests of `venice_async/sandbox/clips/`."""
