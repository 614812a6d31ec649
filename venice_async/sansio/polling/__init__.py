"""When to poll: the times of a model's jobs."""
