"""Making room on a volume: what is old and nobody needs any more."""
