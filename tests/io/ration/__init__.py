"""Tests of `venice_async/io/ration/`."""
