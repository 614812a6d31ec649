"""Where the ration of an account lives."""
