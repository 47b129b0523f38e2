"""Penalties: what keeps a model near the one that its training began with."""
