"""Pure builders of everything that the operator applies for one object. No I/O and no clock.

`build` gives all of it in the order in which it should be applied; `maintenance.job` gives the Job of one task.
"""

from knowledgebeast_operator.custom_resource import KnowledgeBeast
from knowledgebeast_operator.operands import accounts, chroma, claims, cron_jobs, network, service, settings
from knowledgebeast_operator.operands.effective import Effective, effective
from knowledgebeast_operator.operands.manifest import Manifest, desired_hash, stamped


def build(kb: KnowledgeBeast, effective: Effective) -> list[Manifest]:
    """Everything that the object needs, each with its hash as an annotation; what others refer to comes first.

    While the database is being filled from a backup, nothing that would use it is among them.

    The answer does not depend on what exists already: claims of an earlier object of this name are taken over by
    applying the same manifest onto them.
    """
    manifests = [
        settings.config_map(kb, effective),
        *accounts.accounts(kb),
        *network.policies(kb),
        *claims.claims(kb, effective),
        *network.services(kb),
        chroma.stateful_set(kb, effective),
    ]
    if not effective.is_bootstrapping:
        manifests += [service.deployment(kb, effective), *cron_jobs.cron_jobs(kb, effective)]
    return [stamped(manifest) for manifest in manifests]


__all__ = ["Effective", "Manifest", "build", "desired_hash", "effective", "stamped"]
