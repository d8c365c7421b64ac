"""What is fixed about this cluster: versions, addresses, names. Everything here is part of its identity."""

import hashlib
import json

LAYOUT_VERSION = 1  # raise it when kept state of an earlier version cannot be used any more
KUBERNETES_VERSION = "v1.34.4"

NODE_NAME = "node-1"
HOST_ADDRESS = "10.90.0.1"
NODE_ADDRESS = "10.90.0.2"
LINK_PREFIX_LENGTH = 30
SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.0/16"
NODE_POD_RANGE = "10.244.0.0/24"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
PROMETHEUS_ADDRESS = "10.96.0.90"  # fixed, so that a program on the host reaches it without cluster DNS

API_URL = f"https://{NODE_ADDRESS}:6443"
PROMETHEUS_URL = f"http://{PROMETHEUS_ADDRESS}:9090"

NETWORK_NAMESPACE = "knowledgebeast"
HOST_LINK = "kbeast0"
NODE_LINK = "kbeast1"
CGROUP = "knowledgebeast"

CSI_DRIVER = "loop.csi.knowledgebeast.io"
CSI_SOCKET = f"/var/lib/kubelet/plugins/{CSI_DRIVER}/csi.sock"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_PLUGINS = "/usr/lib/cni"


def layout_hash() -> str:
    """Identifies what kept state depends on; a different value means that the state is of no use."""
    identity = [
        LAYOUT_VERSION, KUBERNETES_VERSION, NODE_NAME, NODE_ADDRESS, SERVICE_RANGE, POD_RANGE, CSI_DRIVER,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
