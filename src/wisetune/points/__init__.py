"""Geometry on arrays and tensors: sampling, neighbours, normalisation, augmentation, corruption."""
