"""What the account allows: rate limits, failures, and what the server says is left."""
