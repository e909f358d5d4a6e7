"""Attributes that merge by a rule of their own instead of with their row."""
