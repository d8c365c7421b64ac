"""The command `knowledgebeast` with all its groups."""

import typer

from knowledgebeast_service import __version__
from knowledgebeast_service.cli.bench import HELP as BENCH_HELP
from knowledgebeast_service.cli.bench import bench
from knowledgebeast_service.cli.evaluate import HELP as EVALUATE_HELP
from knowledgebeast_service.cli.evaluate import evaluate
from knowledgebeast_service.cli.ingest import INGEST_HELP, ingest
from knowledgebeast_service.cli.keys import keys
from knowledgebeast_service.cli.maintain_backups import (
    BACKUP_HELP,
    BACKUPS_HELP,
    DRILL_HELP,
    FETCH_HELP,
    backup,
    backups,
    drill,
    fetch_backup,
)
from knowledgebeast_service.cli.maintain_disk import CLEAN_HELP, VACUUM_HELP, clean, vacuum
from knowledgebeast_service.cli.maintain_memory import HELP as HEAP_PROFILE_HELP
from knowledgebeast_service.cli.maintain_memory import heap_profile
from knowledgebeast_service.cli.maintain_model import RESTORE_HELP, VERIFY_HELP, restore, verify
from knowledgebeast_service.cli.maintain_restore import maintain  # the group with all its commands
from knowledgebeast_service.cli.model import build_model
from knowledgebeast_service.cli.projects import HELP as PROJECTS_HELP
from knowledgebeast_service.cli.projects import projects
from knowledgebeast_service.cli.query import HELP as QUERY_HELP
from knowledgebeast_service.cli.query import query
from knowledgebeast_service.cli.serve import SERVE_HELP, serve
from knowledgebeast_service.cli.warm import HELP as WARM_HELP
from knowledgebeast_service.cli.warm import warm

app = typer.Typer(
    name="knowledgebeast",
    help="Hybrid search over your documents.\n\nCommands that ask a running service find it by --url or "
    "KNOWLEDGEBEAST_URL, and send the API key in KNOWLEDGEBEAST_API_KEY.\n\nExample: knowledgebeast serve",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(name="serve", help=SERVE_HELP)(serve)
app.command(help=INGEST_HELP)(ingest)
app.command(help=QUERY_HELP)(query)
app.command(help=PROJECTS_HELP)(projects)
app.command(help=BENCH_HELP)(bench)
app.command(name="eval", help=EVALUATE_HELP)(evaluate)
maintain.command(name="heap-profile", help=HEAP_PROFILE_HELP)(heap_profile)
maintain.command(name="warm", help=WARM_HELP)(warm)
maintain.command(name="verify-model", help=VERIFY_HELP)(verify)
maintain.command(name="restore-model", help=RESTORE_HELP)(restore)
maintain.command(help=CLEAN_HELP)(clean)
maintain.command(help=VACUUM_HELP)(vacuum)
maintain.command(help=BACKUP_HELP)(backup)
maintain.command(help=BACKUPS_HELP)(backups)
maintain.command(help=DRILL_HELP)(drill)
maintain.command(name="fetch-backup", help=FETCH_HELP)(fetch_backup)
app.add_typer(maintain, name="maintain")
app.add_typer(keys, name="keys")
app.command(
    name="build-model",
    help="Make the model folder from the pinned weights.\n\nExample: knowledgebeast build-model --out /opt/models",
)(build_model)


@app.command(help="Print the version.")
def version() -> None:
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `knowledgebeast` command."""
    app()
