"""What the tests of the shim run under it."""

import os
import shutil
from pathlib import Path

from knowledgebeast_service.storage.connection import Connection


def all_kinds(folder_path: str) -> None:
    folder = Path(folder_path) / "kinds"
    folder.mkdir()
    with (folder / "a.tmp").open("w") as file:
        file.write("some text")
        file.flush()
        os.fsync(file.fileno())
    (folder / "a.tmp").rename(folder / "a")
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    (folder / "b").hardlink_to(folder / "a")
    with (folder / "a").open("r+") as file:
        file.truncate(4)
    shutil.copyfile(folder / "a", folder / "c")
    (folder / "b").unlink()
    (folder / "c").unlink()
    with (folder / "a").open("w"):
        pass
    (folder / "a").unlink()
    (folder / "d").symlink_to("nowhere")
    (folder / "d").unlink()
    os.close(os.open(folder, os.O_RDWR | os.O_TMPFILE))
    folder.chmod(0o700)
    shutil.rmtree(folder)


def insert_rows(path: str, transactions: int) -> None:
    connection = Connection(Path(path))
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
    for _ in range(transactions):
        with connection.transaction():
            connection.execute_many("INSERT INTO t VALUES (?)", [(number,) for number in range(100)])
    connection.close()


def write_text(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def write_patiently(path: str, text: str, tries: int) -> list[str]:
    """What became of each try, up to the first that succeeded."""
    outcomes: list[str] = []
    with Path(path).open("wb", buffering=0) as file:
        while len(outcomes) < tries and "written" not in outcomes:
            try:
                file.write(text.encode())
            except OSError:
                outcomes.append("failed")
            else:
                outcomes.append("written")
    return outcomes
