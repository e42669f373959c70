"""One module a measurement: `modelguard bench NAME` runs it and writes its figures to docs/results."""
