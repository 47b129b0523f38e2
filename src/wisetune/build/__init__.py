"""From recipes to trained models and records."""
