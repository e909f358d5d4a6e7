"""Feast's own two layouts: its DynamoDB store as its Bigtable store reads it."""
