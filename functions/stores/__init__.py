"""The narrow storage protocols and one file a store. Names of sites appear here and in the entries, nowhere else."""
