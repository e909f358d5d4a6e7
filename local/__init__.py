"""Both clouds on one machine: emulators, provider plugins, function hosts, front door, faults."""
