"""The runtime settings, which the service watches: changing them restarts nothing."""

import json

from knowledgebeast_operator.custom_resource import KnowledgeBeast, names
from knowledgebeast_operator.custom_resource.names import SERVICE
from knowledgebeast_operator.operands.effective import Effective
from knowledgebeast_operator.operands.manifest import Manifest, metadata
from knowledgebeast_operator.operands.service import SETTINGS_FILE


def config_map(kb: KnowledgeBeast, effective: Effective) -> Manifest:
    """Mounted into the service pods as /etc/knowledgebeast/settings.json."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(kb, names.settings_name(kb.name), SERVICE),
        "data": {SETTINGS_FILE: json.dumps(dict(effective.settings), indent=2, sort_keys=True) + "\n"},
    }
