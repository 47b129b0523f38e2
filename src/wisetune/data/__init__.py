"""Point-cloud readers, tasks, splits, checks and class maps."""
