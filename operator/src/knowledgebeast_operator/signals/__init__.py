"""Gathering: what Prometheus and the cluster know about one object, as one frozen `Facts`."""
