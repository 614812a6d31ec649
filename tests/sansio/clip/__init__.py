"""Tests of `venice_async/sansio/clip/`."""
