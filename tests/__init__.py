"""The tests of venice_async."""
