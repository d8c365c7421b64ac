"""What people can ask for is the same in the schema of Incidents and in the runbooks."""

import re
from pathlib import Path

import yaml

from knowledgebeast_operator import runbooks

CRDS = Path(__file__).parents[2] / "crds"


def allowed() -> dict[str, set[str]]:
    """Options by runbook, as the rule of the CRD has them."""
    crd = yaml.safe_load((CRDS / "incidents.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    (rule,) = [item["rule"] for item in spec["x-kubernetes-validations"] if "self.option in" in item["rule"]]
    found = re.findall(r"self\.runbook == '(\w+)' && has\(self\.option\) && self\.option in \[([^\]]*)\]", rule)
    return {runbook: set(re.findall(r"'(\w+)'", options)) for runbook, options in found}


def test_a_person_can_ask_for_every_option_that_can_be_asked_for_and_for_no_other() -> None:
    by_hand = {
        runbook.name: {option.code for option in runbook.options if option.by_hand is not None}
        for runbook in runbooks.load()
    }
    assert allowed() == {name: codes for name, codes in by_hand.items() if codes}
