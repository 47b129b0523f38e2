"""Training: one loop, its schedule, its optimiser, pre-training."""
