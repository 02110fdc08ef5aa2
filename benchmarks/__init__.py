"""How fast and how exact, beside what people use today: python -m benchmarks --help."""
