"""`knowledgebeast`: a module for each group of commands. `app` puts them together, `client` talks to a service."""

from knowledgebeast_service.cli.app import app, main

__all__ = ["app", "main"]
