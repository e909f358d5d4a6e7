"""The demo: one whole life of the service on this machine, told step by step and measured."""
