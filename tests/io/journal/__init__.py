"""Tests of `venice_async/io/journal/`."""
