"""What people run: the command line, reports, benches."""
