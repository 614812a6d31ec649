"""Tests of `venice_async/sansio/polling/`."""
