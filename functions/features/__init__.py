"""Live features and sessions: one row, one envelope, one version; the larger version wins on both sides."""
