"""What the operator's PromQL makes of samples, as Prometheus itself evaluates it (`promtool test rules`)."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from knowledgebeast_operator.core.load import SERVICE_CPU
from knowledgebeast_operator.signals.queries import QUERIES
from promtool import run_promtool

WINDOW = "5m"
CPU = next(one for one in QUERIES if one.name == SERVICE_CPU)


def has_value(value: float, samples: str, folder: Path) -> bool:
    """Whether this is what the query brings at the end of a window with a sample every 5 s."""
    labels = '{namespace="ns", pod="demo-a"}'
    expected = {
        "expr": f"round({CPU.promql(timedelta(minutes=5))}, 0.1)",
        "eval_time": WINDOW,
        "exp_samples": [{"labels": labels, "value": value}],
    }
    series = [{"series": f"{CPU.signal}{labels}", "values": samples}]
    tests = [{"interval": "5s", "input_series": series, "promql_expr_test": [expected]}]
    file = folder / "test.json"
    file.write_text(json.dumps({"tests": tests}))
    return run_promtool("test", "rules", file).returncode == 0


@pytest.mark.parametrize(
    ("samples", "cores"),
    [("0+5x60", 1.0), ("0x35 5+5x25", 1.0), ("0+5x35 180x25", 0.6), ("7x60", 0.0)],
    ids=["busy_all_the_time", "busy_for_the_last_two_minutes", "busy_before", "idle"],
)
def test_the_cpu_of_a_pod_is_that_of_its_busier_period(samples: str, cores: float, tmp_path: Path) -> None:
    assert has_value(cores, samples, tmp_path)
    assert not has_value(cores + 0.1, samples, tmp_path)
