"""Tunings: what trains."""
