"""Event source mappings: what carries messages and stream records to functions, by Lambda's rules."""
