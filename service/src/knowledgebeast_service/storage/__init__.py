"""SQLite as the truth: locks, connections, migrations, and the only SQL of the service."""
