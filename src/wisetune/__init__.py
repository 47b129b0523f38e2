"""wisetune: robust fine-tuning of pre-trained 3D point-cloud models."""
