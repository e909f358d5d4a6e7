"""Sessions: a signed token with the user, a row behind it."""
