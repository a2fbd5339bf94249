"""The benchmarks that ``scripts/benchmark.py`` runs: one file per piece, each with its peers."""
