"""Downloads clips: read, verify, store."""
