"""The clips that the sandbox makes."""
