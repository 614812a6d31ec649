"""One page of jobs: live from a journal, or frozen beside the clips of a batch."""
