"""Speed, measured against what people use today; see docs/performance.md. Run from the repository: ``python -m benchmarks.NAME``."""
