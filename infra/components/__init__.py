"""What exists: one file an entity, each with its arguments, its resources and the rights on it."""
