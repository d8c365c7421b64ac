"""What the service tells about itself: the metrics contract, JSON logs, the machine's limits."""
