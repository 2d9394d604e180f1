"""The benchmark suite: `python -m benchmarks`, see docs/benchmarks/README.md."""
