"""The report of a run: one typed result, written as demo.json for machines and index.html for people."""
