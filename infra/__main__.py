"""The program: config -> topology -> components -> outputs."""

import pulumi

from infra import config, liveness, outputs
from infra.program import Builder
from infra.topology import topology

settings = config.load()
liveness.freeze(liveness.lost_sites(settings))
outputs.export(Builder(settings, topology(settings), pulumi.get_stack()).build())
