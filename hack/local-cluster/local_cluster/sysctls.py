"""The kernel settings that the kubelet changes for the whole machine, kept so that `down` can put them back."""

import json
from pathlib import Path

from local_cluster.paths import State

CHANGED_BY_KUBELET = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
                      "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")  # fmt: skip
ROOT = Path("/proc/sys")


def remember(state: State) -> None:
    """Notes the values of before, unless an earlier run's are noted (then these are the ones to go back to)."""
    if not state.sysctls.exists():
        values = {name: (ROOT / name).read_text().strip() for name in CHANGED_BY_KUBELET}
        state.sysctls.write_text(json.dumps(values))


def restore(state: State) -> None:
    if state.sysctls.exists():
        values: dict[str, str] = json.loads(state.sysctls.read_text())
        for name, value in values.items():
            (ROOT / name).write_text(value)
        state.sysctls.unlink()
