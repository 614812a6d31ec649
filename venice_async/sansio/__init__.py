"""The quiet middle: it decides and touches nothing. No network, no clock, no chance, no `async`."""
