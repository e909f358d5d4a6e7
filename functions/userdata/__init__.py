"""User data: tables of Aurora PostgreSQL and Spanner kept alike, in both directions."""
