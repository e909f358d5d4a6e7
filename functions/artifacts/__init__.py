"""Model versions: published once, carried to the other site in packs, rebuilt, proven equal, then named by an alias."""
