"""Fleets of service instances and the load balancers of a site."""
