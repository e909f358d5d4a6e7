"""A Pulumi program with the feature path alone: what `bench features-lag` measures, and nothing that runs beside it."""
