#!/usr/bin/env bash
# The scenarios on a real cluster: the one that KUBECONFIG names, else the local one, which is stopped afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${KUBECONFIG:-}" ] && { [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; }; then
    echo "SKIPPED tests/e2e: the local cluster needs root on Linux, and KUBECONFIG names no other cluster."
    exit 0
fi
run=(uv run --frozen --no-sync pytest -v --durations=10)
"${run[@]}" tests/e2e -m 'not cluster_lifecycle'
if [ -n "${KUBECONFIG:-}" ]; then
    echo "SKIPPED tests/e2e/test_local_cluster_lifecycle.py: KUBECONFIG names a cluster that is not ours to stop."
else
    "${run[@]}" tests/e2e -m cluster_lifecycle
    python3 hack/local-cluster/cluster.py down
fi
