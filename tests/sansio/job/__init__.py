"""Tests of `venice_async/sansio/job/`."""
