"""The provider plugins of the local and recorded grounds: pulumi-resource-aws, -gcp and -cloudflare for the real engine.

Arguments and their types come from the installed provider packages, so a plugin accepts exactly what the real
provider's SDK describes. What a type does with them is one entry of a table in `behaviours`; a type without an entry
is refused by name, never accepted on trust. Outputs (ids, ARNs, self links, hostnames) are pure functions of inputs and
account, so a recorded stack and a running one look the same to the program.
"""
