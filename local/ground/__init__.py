"""The ground: one daemon a folder that runs the emulators, the fault proxy and the three cloud processes."""
