"""Brings two tables to the same rows: surveys, digests, the rule that says when, and the repair."""
