"""Backups: made online, verified when made, listed with a verdict, pruned, rehearsed."""
