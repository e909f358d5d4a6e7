"""The fault proxy: every public port of the ground, and what a cut, hung or slow cloud does to its connections."""
