"""Clips on their way to a file: read, verified, stored."""
