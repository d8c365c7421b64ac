"""The Job that fills a new object from another one's backups."""

from collections.abc import Mapping
from typing import cast

import pytest

from knowledgebeast_operator.custom_resource.spec import RestoreFrom
from knowledgebeast_operator.operands import Manifest, effective
from knowledgebeast_operator.operands.bootstrap import bootstrap_job
from operand_objects import REMOTE, at, knowledge_beast, operands, selects

ID = "20260107T120000Z-4711"
REQUIRED = ("affinity", "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution", 0, "labelSelector")


def built(claim: str = "other-backups", backup: str | None = None) -> Manifest:
    kb = knowledge_beast()
    return bootstrap_job(kb, effective(kb, default_image="i"), RestoreFrom(claim_name=claim, backup=backup))


def pod(manifest: Manifest) -> object:
    return at(manifest, "spec", "template", "spec")


def command(manifest: Manifest) -> list[str]:
    return cast("list[str]", at(pod(manifest), "containers", 0, "command"))


def claims(manifest: Manifest) -> dict[str, Mapping[str, object]]:
    """By the folder at which they are mounted."""
    volumes = {str(at(one, "name")): one for one in cast("list[object]", at(pod(manifest), "volumes"))}
    mounts = cast("list[Mapping[str, object]]", at(pod(manifest), "containers", 0, "volumeMounts"))
    found: dict[str, Mapping[str, object]] = {}
    for mount in mounts:
        source = cast("Mapping[str, object]", volumes[str(mount["name"])])
        if "persistentVolumeClaim" in source:
            found[str(mount["mountPath"])] = {
                **cast("Mapping[str, object]", source["persistentVolumeClaim"]),
                "mount": mount,
            }
    return found


def test_it_restores_the_newest_good_backup_onto_a_new_volume_only() -> None:
    assert command(built())[:7] == [
        *("knowledgebeast", "maintain", "restore"),
        *("--new-volume", "--approve-loss", "--backup-dir", "/source"),
    ]
    assert at(built(), "metadata", "name") == "demo-bootstrap"


def test_a_named_backup_is_restored_as_it_was_then() -> None:
    assert command(built(backup=ID))[9:12] == ["--backup", ID, "--only-backup"]


def test_what_it_has_restored_is_backed_up_beside_its_own_backups() -> None:
    assert command(built())[7:9] == ["--own-backup-dir", "/backups"]


def test_the_backups_of_the_other_object_are_only_read() -> None:
    source = claims(built())["/source"]
    assert (source["claimName"], source["readOnly"], at(source["mount"], "readOnly")) == ("other-backups", True, True)


def test_its_own_backups_are_mounted_once() -> None:
    """The kubelet waits for ever for the second volume of a pod that has the same claim."""
    manifest = built("demo-backups")
    assert set(claims(manifest)) == {"/data", "/backups"}
    assert command(manifest)[5:7] == ["--backup-dir", "/backups"]


@pytest.mark.parametrize(("claim", "is_beside"), [("other-backups", True), ("copied-from-elsewhere", False)])
def test_it_goes_to_the_node_where_the_source_is_in_use(claim: str, is_beside: bool) -> None:
    wanted = at(pod(built(claim)), *REQUIRED)
    using = at(operands(name="other")["Deployment", "other"], "spec", "template", "metadata", "labels")
    assert selects(wanted, cast("dict[str, str]", using)) == is_beside
    own = at(built(claim), "spec", "template", "metadata", "labels")
    assert selects(wanted, cast("dict[str, str]", own)), "it could never be the first pod anywhere"


# From object storage


def from_remote(backup: str | None = None) -> Manifest:
    kb = knowledge_beast()
    source = RestoreFrom.model_validate({"remote": REMOTE, "backup": backup})
    return bootstrap_job(kb, effective(kb, default_image="i"), source)


def test_a_set_is_brought_to_a_volume_that_goes_with_the_pod() -> None:
    manifest = from_remote()
    assert command(manifest)[3:10] == [
        *("--new-volume", "--approve-loss"),
        *("--from-remote", "--backup-dir", "/scratch", "--own-backup-dir", "/backups"),
    ]
    volumes = {str(at(one, "name")): one for one in cast("list[object]", at(pod(manifest), "volumes"))}
    assert "ephemeral" in cast("Mapping[str, object]", volumes["scratch"])
    assert set(claims(manifest)) == {"/data", "/backups"}


def test_a_named_set_is_brought_and_restored() -> None:
    assert command(from_remote(ID))[10:13] == ["--backup", ID, "--only-backup"]


def test_it_waits_for_the_keys_that_it_needs() -> None:
    variables = cast("list[Mapping[str, object]]", at(pod(from_remote()), "containers", 0, "env"))
    references = [at(one, "valueFrom", "secretKeyRef") for one in variables if "valueFrom" in one]
    assert references == [{"name": "s3-keys", "key": "accessKeyId"}, {"name": "s3-keys", "key": "secretAccessKey"}]


@pytest.mark.parametrize("source", [{}, {"claimName": "other-backups", "remote": REMOTE}])
def test_there_is_exactly_one_source(source: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one of claimName and remote"):
        RestoreFrom.model_validate(source)
