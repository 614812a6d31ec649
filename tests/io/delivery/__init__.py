"""Tests of `venice_async/io/delivery/`."""
