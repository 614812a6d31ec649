"""Tests of `venice_async/sansio/limits/`."""
