"""The journal: jobs on disk, so that nothing paid for is lost."""
