"""Parity of the two sites, store by store: what is compared, how it is told, and the exit code."""
