"""Redis as a source of feature rows and as a read cache in front of a store."""
