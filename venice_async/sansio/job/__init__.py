"""The life of a job: states, events, commands, and the machine that joins them."""
