"""Pure state machines and small tools against slow or absent neighbours."""
