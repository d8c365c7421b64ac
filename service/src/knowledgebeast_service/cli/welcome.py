"""What `knowledgebeast serve` says on a laptop: where things are, and what to type next."""

from pathlib import Path

from knowledgebeast_service import __version__
from knowledgebeast_service.cli.client import DEFAULT_URL

ANY_HOST = ("0.0.0.0", "::", "")


def welcome(host: str, port: int, data_dir: Path) -> str:
    """For a service with Chroma inside its process; `port` is the one it listens on."""
    name = "127.0.0.1" if host in ANY_HOST else f"[{host}]" if ":" in host else host
    url = f"http://{name}:{port}"
    option = "" if url == DEFAULT_URL else f" --url {url}"
    return f"""
KnowledgeBeast {__version__} is running. Its data is in {data_dir.resolve()}

  search page   {url}/ui
  HTTP API      {url}/docs

Next, in another terminal:

  knowledgebeast ingest ~/notes --project notes{option}
  knowledgebeast query "what did I write about backups" --project notes{option}

Ctrl-C stops it.

"""
