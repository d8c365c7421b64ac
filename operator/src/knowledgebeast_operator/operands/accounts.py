"""ServiceAccounts. They carry no rights and no token: neither the service nor Chroma talks to the API server."""

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import CHROMA, SERVICE
from knowledgebeast_operator.operands.manifest import Manifest, metadata


def accounts(kb: KnowledgeBeast) -> list[Manifest]:
    return [
        _account(kb, names.service_account_name(kb.name), SERVICE),
        _account(kb, names.chroma_name(kb.name), CHROMA),
    ]


def _account(kb: KnowledgeBeast, name: str, component: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(kb, name, component),
        "automountServiceAccountToken": False,
    }
