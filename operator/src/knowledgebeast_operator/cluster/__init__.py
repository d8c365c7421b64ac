"""The Kubernetes API as this operator uses it: one client, the kinds it touches, and what its watches have shown."""
