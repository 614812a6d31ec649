"""Tests of what does."""
