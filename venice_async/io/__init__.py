"""The ring that does what the middle decided: network, files, clock and chance."""
