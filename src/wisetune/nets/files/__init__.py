"""Weights files: released ones of every layout, and those that wisetune writes."""
