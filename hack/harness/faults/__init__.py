"""Real faults, each with its undo. A fault is a context manager: it is over when the block is left, however it is left.

Nothing here depends on anything inside the operator or the service, and the product has no switch for any of it.
"""
