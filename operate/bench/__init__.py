"""Benches: speed measured as ratios and medians in one run, with the host described."""
