"""The report of a batch, as an HTML page."""
