"""The clouds' own side of the local ground: one process a cloud, its control plane and everything that runs there."""
