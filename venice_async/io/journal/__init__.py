"""The journal: jobs on disk, or in a database of many machines."""
