"""The journal: jobs on disk, so that no paid job is lost."""
