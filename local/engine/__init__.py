"""What the Pulumi engine needs around it on a local or recorded ground: environment, language host, plugin launchers."""
