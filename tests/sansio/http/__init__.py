"""Tests of `venice_async/sansio/http/`."""
