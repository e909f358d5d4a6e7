"""Names of the metrics that alarms watch: the functions emit them, the program makes the alarms."""

PATH = "artifacts"
AUDIT, ENCODE, THIRD = "audit", "encode", "third"
# What leaves a cloud, and so what its egress is charged for: packs for the other site, files for the third copy.
SENDING = (ENCODE, THIRD)
BYTES_WIRE = "bytes_wire"
MISMATCHES = "mismatches"
