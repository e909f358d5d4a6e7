"""Who is active: the gate that says whether a site may take over."""
