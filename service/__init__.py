"""The reference AI service: a recommender. A user puts their own container in its place."""
