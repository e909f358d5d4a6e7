"""How the bytes of a tensor are written so that few go over the wire, and come back bit for bit."""
