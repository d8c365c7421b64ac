"""What the demo, the end-to-end tests and the benchmarks share: a cluster, an installation, load, faults.

Everything here works from outside, as a user or a chaos tool would: through `kubectl`, the API server and HTTP.
"""
