"""A process that writes and ships until it is killed; it says what was acknowledged as soon as that is so, and when."""

import asyncio
import sys
import time
from pathlib import Path

from knowledgebeast_service.shipping.shipper import Shipper
from knowledgebeast_service.storage.database import Database
from knowledgebeast_service.storage.documents import upsert_documents
from restore_world import document


async def write(database: Path, backups: Path, name: str, acknowledged: Path, seconds: float) -> None:
    opened = Database(database)
    opened.open()
    shipper = asyncio.create_task(Shipper(opened, backups, seconds).run()) if seconds else None
    number = 0
    with acknowledged.open("ab", buffering=0) as file:
        while True:
            number += 1
            key = f"{name}-{number}"
            new = document(key, f"{name} says {number}")
            await opened.write(lambda connection, new=new: upsert_documents(connection, "p", [new]))
            file.write(f"{key} {time.time()}\n".encode())
            assert shipper is None or not shipper.done()


if __name__ == "__main__":
    folder, backup_dir, who, answers, distance = sys.argv[1:]
    asyncio.run(write(Path(folder), Path(backup_dir), who, Path(answers), float(distance)))
