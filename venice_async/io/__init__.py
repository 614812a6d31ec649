"""Does what `sansio` decides: network, files, clock and randomness."""
