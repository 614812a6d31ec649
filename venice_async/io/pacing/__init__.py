"""The waiting list for requests, and whose turn it is."""
