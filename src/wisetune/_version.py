"""The version, read by the build and by nothing else."""

__version__ = "0.1.0"
