"""Drives the jobs of one client."""
