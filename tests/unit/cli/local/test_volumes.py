"""Claims, ConfigMaps and Secrets as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.local.pod_environment import container_environment, free_addresses, inherited_environment
from finetune_operator.cli.local.volumes import Volumes, hub_token, missing, pod_paths, with_program_beside
from finetune_operator.plan.desired.manifests import prepare_job, train_job
from finetune_operator.plan.desired.pod_template import SCRIPT_PATH
from finetune_operator.plan.types import PlanSettings
from tests.support.golden import load

SETTINGS = PlanSettings(trainer_image="here")


def job(name: str, **spec: Any) -> FineTuneJob:
    body = load(name)
    return FineTuneJob.parse({**body, "spec": {**body["spec"], **spec}})


def test_mounts_become_folders(tmp_path: Path) -> None:
    local_job = job("job-local.yaml")
    pod = train_job(local_job, SETTINGS, 1)["spec"]["template"]["spec"]
    volumes = Volumes(tmp_path, claims={"reviews-data": tmp_path / "mine"})
    paths = pod_paths(local_job, pod, volumes, None)
    assert paths["/data"] == str(tmp_path / "mine")
    assert paths["/output"] == str(tmp_path / "claims" / "reviews")
    assert paths["/etc/finetune"].startswith(str(tmp_path / "configmaps" / "reviews-"))
    assert set(paths) == {"/data", "/output", "/etc/finetune"}


def test_sub_paths_and_single_keys_of_secrets(tmp_path: Path) -> None:
    hub_job = job("job-hub.yaml")
    pod = prepare_job(hub_job, SETTINGS, 1)["spec"]["template"]["spec"]
    paths = pod_paths(hub_job, pod, Volumes(tmp_path), tmp_path / "login")
    assert paths["/shared"] == str(tmp_path / "claims" / "models" / "models")
    assert paths["/var/run/finetune/hub/token"] == str(tmp_path / "login")


def test_variables_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "wandb").mkdir(parents=True)
    (tmp_path / "secrets" / "wandb" / "key").write_text("s3cret")
    pod = train_job(job("job-hub.yaml"), SETTINGS, 1)["spec"]["template"]["spec"]
    values = container_environment(pod["containers"][0], Volumes(tmp_path))
    assert values["WANDB_API_KEY"] == "s3cret"
    assert values["FINETUNE_ATTEMPT"] == "1"


def test_credential_keys_are_variables_of_prepare(tmp_path: Path) -> None:
    """Every key of the data's credentials is a variable where data is read."""
    remote_job, volumes = job("job-remote.yaml"), Volumes(tmp_path, secrets={"bucket": tmp_path / "mine"})
    for name, value in {"AWS_ACCESS_KEY_ID": "me", "FINETUNE_ATTEMPT": "7", "..data": "x", "a b": "x"}.items():
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text(value)
    read = container_environment(
        prepare_job(remote_job, SETTINGS, 1)["spec"]["template"]["spec"]["containers"][0], volumes
    )
    trained = container_environment(
        train_job(remote_job, SETTINGS, 1)["spec"]["template"]["spec"]["containers"][0], volumes
    )
    assert read["AWS_ACCESS_KEY_ID"] == "me"
    assert read["FINETUNE_ATTEMPT"] == "1", "what the system sets stays"
    assert not {"..data", "a b"} & read.keys()
    assert "AWS_ACCESS_KEY_ID" not in trained
    assert not any("credentials" in problem for problem in missing(remote_job, volumes))
    (problem,) = (problem for problem in missing(remote_job, Volumes(tmp_path)) if "credentials" in problem)
    assert problem == (
        "spec.dataset.credentialsSecretRef: Secret bucket is not here; say --secret bucket=FOLDER (a folder with a file "
        "per key)"
    )


def test_everything_that_is_missing_is_named_with_the_way_out(tmp_path: Path) -> None:
    problems = list(missing(job("job-hub.yaml"), Volumes(tmp_path)))
    assert any(
        "claim models has no folder here" in problem and "--volume models=FOLDER" in problem for problem in problems
    )
    assert any("--config-map lexicon=FOLDER" in problem for problem in problems)
    assert any("--secret keys=FOLDER" in problem for problem in problems)
    assert any("spec.env[WANDB_API_KEY]: Secret wandb is not here" in problem for problem in problems)


@pytest.mark.parametrize("name", ["../outside", "/etc", "Up"])
def test_a_claim_never_leads_out_of_the_work_folder(name: str, tmp_path: Path) -> None:
    local_job = job("job-local.yaml", storage={"claimName": name})
    assert any("is no name of a Kubernetes object" in problem for problem in missing(local_job, Volumes(tmp_path)))


def test_the_token_comes_from_secret_environment_or_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_job, volumes = job("job-hub.yaml"), Volumes(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "login"))
    with pytest.raises(CommandError, match="hf auth login"):
        hub_token(hub_job, volumes)
    (tmp_path / "login").write_text("hf_login")
    assert hub_token(hub_job, volumes) == tmp_path / "login"
    monkeypatch.setenv("HF_TOKEN", "hf_env")
    assert hub_token(hub_job, volumes) == "hf_env"
    (tmp_path / "secrets" / "hf").mkdir(parents=True)
    (tmp_path / "secrets" / "hf" / "token").write_text("hf_secret")
    assert hub_token(hub_job, volumes) == tmp_path / "secrets" / "hf" / "token"
    assert hub_token(job("job-local.yaml"), volumes) is None


def test_a_pod_sees_no_secret_and_no_other_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "RANK", "WORLD_SIZE", "FINETUNE_ATTEMPT"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = inherited_environment(ranks=1000)
    assert not {"HF_TOKEN", "RANK", "WORLD_SIZE", "FINETUNE_ATTEMPT"} & seen.keys()
    assert seen["HTTPS_PROXY"] == "http://proxy"
    assert seen["OMP_NUM_THREADS"] == "1"


def test_keys_to_the_data_are_for_who_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "AWS_SECRET_ACCESS_KEY" not in inherited_environment(ranks=1)
    assert inherited_environment(ranks=1, reads_data=True)["AWS_SECRET_ACCESS_KEY"] == "secret"


def test_every_node_has_an_address_of_its_own() -> None:
    assert len(set(free_addresses(8))) == 8


# --- programs of the user's own ---------------------------------------------------------------------------------------


def script_job(**script: Any) -> FineTuneJob:
    body = load("job-local.yaml")
    source = script or {"configMap": {"name": "code", "key": "train.py"}}
    return FineTuneJob.parse({**body, "spec": {"script": source, "storage": {"size": "1Gi"}}})


def test_program_beside_the_manifest_is_that_of_the_config_map(tmp_path: Path) -> None:
    manifests = tmp_path / "git"
    manifests.mkdir()
    (manifests / "train.py").touch()
    volumes = Volumes(tmp_path / "work", config_maps={"other": tmp_path})
    taken = with_program_beside(script_job(), volumes, manifests)
    assert taken.config_map("code") == manifests
    assert taken.config_map("other") == tmp_path
    assert volumes.config_map("code") == tmp_path / "work" / "configmaps" / "code", "the ones before are not changed"
    assert list(missing(script_job(), taken)) == []
    pod = train_job(script_job(), SETTINGS, 1)["spec"]["template"]["spec"]
    assert pod_paths(script_job(), pod, taken, None)[SCRIPT_PATH] == str(manifests)


def test_relative_folder_of_the_manifest_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods have other working folders."""
    (tmp_path / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    assert with_program_beside(script_job(), Volumes(tmp_path / "work"), Path()).config_map("code") == tmp_path


@pytest.mark.parametrize("where", ["option", "work folder"])
def test_config_map_that_somebody_named_goes_before_the_file_beside(tmp_path: Path, where: str) -> None:
    (tmp_path / "train.py").touch()
    mine = tmp_path / "mine" if where == "option" else tmp_path / "work" / "configmaps" / "code"
    mine.mkdir(parents=True)
    volumes = Volumes(tmp_path / "work", config_maps={"code": mine} if where == "option" else {})
    assert with_program_beside(script_job(), volumes, tmp_path) is volumes


@pytest.mark.parametrize("script", [{}, {"path": "/code/train.py"}, {"module": "trl.scripts.sft"}])
def test_without_such_a_file_nothing_is_taken(tmp_path: Path, script: dict[str, Any]) -> None:
    if script:
        (tmp_path / "train.py").touch()
    volumes = Volumes(tmp_path / "work")
    assert with_program_beside(script_job(**script), volumes, tmp_path) is volumes
    assert with_program_beside(job("job-local.yaml"), volumes, tmp_path) is volumes


def test_program_that_is_missing_is_named_with_the_way_out(tmp_path: Path) -> None:
    (problem,) = missing(script_job(), Volumes(tmp_path))
    assert problem == (
        "spec.script.configMap: ConfigMap code is not here; say --config-map code=FOLDER (a folder with a file per key)"
    )
    (tmp_path / "configmaps" / "code").mkdir(parents=True)
    (problem,) = missing(script_job(), Volumes(tmp_path))
    assert problem == f"spec.script.configMap: ConfigMap code has no key train.py in {tmp_path / 'configmaps' / 'code'}"
