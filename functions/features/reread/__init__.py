"""The direction whose source tells which rows changed and not what they hold: rows are read again."""
