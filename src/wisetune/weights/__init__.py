"""Weight space: merges, their audit, the choice of alpha."""
