"""What `benchmarks/step.py` is made of: the rows, one measurement, and the report."""
