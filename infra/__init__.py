"""What exists: config -> topology -> components -> outputs. Builds both sites with one Pulumi program."""
