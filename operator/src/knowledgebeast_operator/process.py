"""The life of the operator's process: stand by, lead, hand over. kopf runs only while the lease is held."""

import asyncio
import logging
import signal

import kopf
from kopf._core.engines.peering import Identity
from prometheus_client import start_http_server

from knowledgebeast_operator import runbooks
from knowledgebeast_operator.cluster.client import Cluster
from knowledgebeast_operator.cluster.kinds import NODE, STORAGE_CLASS
from knowledgebeast_operator.custom_resource import FIELD_MANAGER
from knowledgebeast_operator.dependencies import WATCHED, Dependencies
from knowledgebeast_operator.health import Health
from knowledgebeast_operator.leadership import ClusterLease, Leadership
from knowledgebeast_operator.record import metrics
from knowledgebeast_operator.settings import Settings

logger = logging.getLogger(__name__)


async def run(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT. Metrics and liveness are served from the start, by a standby too."""
    metrics.register(runbooks.load(), [kind.plural for kind in (*WATCHED, NODE, STORAGE_CLASS)])
    server, _ = start_http_server(settings.metrics_port, settings.bind_address)
    health = Health()
    await health.start(settings.bind_address, settings.liveness_port)
    cluster = await Cluster.connect(
        field_manager=FIELD_MANAGER,
        timeout_seconds=settings.request_timeout_seconds,
        user_agent=f"{FIELD_MANAGER} ({settings.identity})",
    )
    logger.info(
        "standing by as %s; metrics on port %d, liveness on port %d",
        settings.identity,
        server.server_port,
        health.port,
    )
    try:
        await _stand_by_and_lead(settings, cluster, health)
    finally:
        await cluster.close()
        await health.stop()
        server.shutdown()


async def _stand_by_and_lead(settings: Settings, cluster: Cluster, health: Health) -> None:
    leadership = Leadership(
        ClusterLease(
            cluster,
            settings.operator_namespace,
            settings.lease_name,
            duration_seconds=settings.lease_duration_seconds,
            timeout_seconds=settings.lease_request_timeout_seconds,
        ),
        identity=settings.identity,
        duration_seconds=settings.lease_duration_seconds,
        renew_seconds=settings.lease_renew_seconds,
    )
    metrics.IS_LEADER.set_function(lambda: float(leadership.is_leader()))
    if not await _campaign(leadership):
        return
    holding = asyncio.create_task(leadership.hold(), name="lease")
    try:
        await _operate(Dependencies(settings, cluster, leadership, health))
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await leadership.release()


async def _campaign(leadership: Leadership) -> bool:
    """Waits for the lease; False when the process is asked to end before."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    campaign = asyncio.create_task(leadership.campaign(), name="campaign")
    stop = asyncio.create_task(stopped.wait(), name="stop")
    await asyncio.wait((campaign, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if campaign.done():
        await campaign
        return True
    campaign.cancel()
    return False


async def _operate(dependencies: Dependencies) -> None:
    """kopf, until a signal: from here on it handles signals itself."""
    await kopf.operator(
        # not used, as there is no peering; left out, kopf asks for the name of a user that the image does not have
        identity=Identity(dependencies.settings.identity),
        memo=kopf.Memo(dependencies=dependencies),
        standalone=True,
        namespaces=dependencies.settings.watched_namespaces,
    )
