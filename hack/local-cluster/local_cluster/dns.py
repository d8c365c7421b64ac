"""One question to the cluster's DNS (RFC 1035), to know that names really resolve."""

import secrets
import socket
import struct

TYPE_A, CLASS_IN = 1, 1
RECURSION_DESIRED = 0x0100


def question(name: str, identifier: int) -> bytes:
    """A query for the IPv4 addresses of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    header = struct.pack("!HHHHHH", identifier, RECURSION_DESIRED, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!HH", TYPE_A, CLASS_IN)


def addresses(answer: bytes, identifier: int) -> list[str]:
    """The A records of an answer. Raises ValueError if it is no answer to the question, or a refusal."""
    if len(answer) < 12:
        raise ValueError("shorter than a header")
    got, flags, questions, records, _, _ = struct.unpack("!HHHHHH", answer[:12])
    if got != identifier or flags & 0x000F:
        raise ValueError(f"identifier {got}, response code {flags & 0x000F}")
    offset = 12
    for _ in range(questions):
        offset = _skip_name(answer, offset) + 4
    found: list[str] = []
    for _ in range(records):
        offset = _skip_name(answer, offset)
        kind, _, _, length = struct.unpack("!HHIH", answer[offset : offset + 10])
        if kind == TYPE_A:
            found.append(socket.inet_ntoa(answer[offset + 10 : offset + 10 + length]))
        offset += 10 + length
    return found


def _skip_name(message: bytes, offset: int) -> int:
    while message[offset]:
        if message[offset] >= 0xC0:  # a pointer to an earlier name ends this one
            return offset + 2
        offset += 1 + message[offset]
    return offset + 1


def look_up(name: str, server: str, timeout_seconds: float = 1.0) -> list[str]:
    """Asks `server` over UDP. Raises OSError when nothing answers, ValueError for a refusal (NXDOMAIN too)."""
    identifier = secrets.randbelow(1 << 16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout_seconds)
        client.connect((server, 53))
        client.send(question(name, identifier))
        return addresses(client.recv(4096), identifier)
