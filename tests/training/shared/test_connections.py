"""A company's network: its own authority signs everything, and there is one way out. What no waiting mends is said at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import ModelSource, TaskConfig
from finetune_trainer.prepare import web as web_files
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.preflight import check
from finetune_trainer.shared import connections
from finetune_trainer.shared.failures import ExpectedError
from tests.support.authority import Authority, authority
from tests.support.proxy import proxy
from tests.support.published import Publishing, seal_model
from tests.support.ranks import PACKAGES
from tests.support.runs import run_config
from tests.support.stub_hub import TOKEN, Repository, StubHub, stub_hub
from tests.support.stub_web import StubWeb, stub_web
from tests.support.tiny import reviews, tiny_bert, write_rows

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
LINES = "".join(json.dumps(row) + "\n" for row in reviews(30)).encode()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("company") / "authority")


@pytest.fixture(autouse=True)
def nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *PROXIES, *(name.lower() for name in PROXIES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def web(company: Authority) -> Iterator[StubWeb]:
    with stub_web(company.server) as stub:
        stub.files = {"/train.jsonl": LINES}
        yield stub


@pytest.fixture
def hub(company: Authority, tmp_path: Path) -> Iterator[StubHub]:
    write_rows(tmp_path / "dataset/data/train.parquet", reviews(40, labels=(0, 1)))
    with stub_hub(tls=company.server) as stub:
        stub.models["us/tiny"] = Repository(tiny_bert(tmp_path / "tiny"))
        stub.datasets["us/reviews"] = Repository(tmp_path / "dataset")
        yield stub


def config(hub: StubHub, folder: Path) -> TaskConfig:
    dataset = {"name": "us/reviews"}
    return run_config(folder / "output", model="us/tiny", dataset=dataset, hub={"endpoint": hub.endpoint})


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_is_trusted_under_each_of_its_names(
    variable: str, company: Authority, web: StubWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {variable: str(company.certificate)}
    for name, value in {**variables, **connections.environment(variables)}.items():
        monkeypatch.setenv(name, value)
    assert web_files.find(f"{web.endpoint}/train.jsonl").size == len(LINES)


@pytest.mark.parametrize(
    ("variables", "made"),
    [
        ({}, {}),
        ({"REQUESTS_CA_BUNDLE": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"CURL_CA_BUNDLE": "/b.pem", "REQUESTS_CA_BUNDLE": "/a.pem"}, {"SSL_CERT_FILE": "/a.pem"}),
        ({"REQUESTS_CA_BUNDLE": "/"}, {"SSL_CERT_DIR": "/"}),
        ({"REQUESTS_CA_BUNDLE": "/a.pem", "SSL_CERT_FILE": "/b.pem"}, {}),
        ({"REQUESTS_CA_BUNDLE": "/a.pem", "SSL_CERT_DIR": "/b"}, {}),
        ({"REQUESTS_CA_BUNDLE": ""}, {}),
    ],
)
def test_a_name_for_older_libraries_counts_where_no_other_is_given(
    variables: dict[str, str], made: dict[str, str]
) -> None:
    assert connections.environment(variables) == made


def test_the_prepare_command_trusts_whom_older_libraries_would(
    company: Authority, hub: StubHub, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(config(hub, tmp_path).to_json())
    variables = {
        **os.environ,
        "PYTHONPATH": str(PACKAGES),
        "REQUESTS_CA_BUNDLE": str(company.certificate),
        "FINETUNE_CONFIG": str(tmp_path / "run.json"),
        "FINETUNE_TERMINATION_LOG": str(tmp_path / "termination-log"),
    }
    command = [sys.executable, "-m", "finetune_trainer", "prepare"]
    process = subprocess.run(command, env=variables, capture_output=True, text=True)
    record = ResultRecord.model_validate_json((tmp_path / "termination-log").read_text())
    assert record.outcome is Outcome.SUCCEEDED, process.stderr


def test_untrusted_address_is_asked_once(web: StubWeb) -> None:
    """An address that is not trusted is asked once, and the way out is named."""
    with pytest.raises(ExpectedError) as raised:
        web_files.find(f"{web.endpoint}/train.jsonl")
    assert (raised.value.reason, raised.value.cause) == (Reason.CERTIFICATE_NOT_TRUSTED, Cause.USER)
    assert f"The certificate of {web.endpoint}/train.jsonl is not trusted" in str(raised.value)
    assert "name the file in spec.env as SSL_CERT_FILE" in str(raised.value)


def test_a_hub_that_is_not_trusted_is_asked_once(hub: StubHub, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError) as raised:
        HubReader(config(hub, tmp_path).hub).model(ModelSource(name="us/tiny"), tmp_path / "cache")
    assert (raised.value.reason, raised.value.cause) == (Reason.CERTIFICATE_NOT_TRUSTED, Cause.USER)
    assert f"The certificate of the Hub at {hub.endpoint} (spec.hub.endpoint) is not trusted" in str(raised.value)


def test_publishing_says_that_hub_is_not_trusted(hub: StubHub, tmp_path: Path) -> None:
    """Before training and after it, publishing says that the Hub is not trusted."""
    publishing = Publishing(tmp_path / "job", hub.endpoint, TOKEN)
    seal_model(publishing.layout)
    with pytest.raises(ExpectedError) as before:
        check(publishing.config().publish, publishing.config().hub)
    with pytest.raises(ExpectedError) as after:
        publishing.run()
    for raised in (before, after):
        assert (raised.value.reason, raised.value.cause) == (Reason.CERTIFICATE_NOT_TRUSTED, Cause.USER)
    assert not [line for line in publishing.messages if line.startswith("try ")]


def test_a_file_with_another_authority_is_named(web: StubWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = authority(tmp_path / "other").certificate
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with pytest.raises(ExpectedError, match="does not hold the authority that signed it") as raised:
        web_files.find(f"{web.endpoint}/train.jsonl")
    assert f"REQUESTS_CA_BUNDLE ({other})" in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file or directory"), ("no certificate", "it holds no certificates")]
)
def test_variable_without_certificates_is_said_first(
    content: str | None, says: str, web: StubWeb, hub: StubHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that names no certificates is said before anybody is asked."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ExpectedError, match=f"{file}.*{says}") as raised:
        web_files.find(f"{web.endpoint}/train.jsonl")
    assert raised.value.reason is Reason.CERTIFICATE_NOT_TRUSTED
    with pytest.raises(ExpectedError, match=says):
        HubReader(config(hub, tmp_path).hub).model(ModelSource(name="us/tiny"), tmp_path / "cache")
    assert not hub.asked


@pytest.mark.parametrize(
    ("error_text", "reason"),
    [
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain",
            True,
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for",
            True,
        ),
        ("When reading information for key: curlCode: 60, SSL peer certificate or SSH remote key was not OK", True),
        ("error sending request: client error (Connect): invalid peer certificate: UnknownIssuer", True),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)", False),
        ("invalid peer certificate: Expired", False),
        ("[Errno 111] Connection refused", False),
    ],
)
def test_what_waiting_may_mend_is_waited_for(error_text: str, reason: bool) -> None:
    refusal = connections.refusal(error_text, "the Hub")
    assert (refusal is not None and refusal[0] is Reason.CERTIFICATE_NOT_TRUSTED) is reason


def test_the_one_way_out_is_a_proxy(company: Authority, web: StubWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    address = web.endpoint.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(company.certificate))
    with proxy() as way:
        monkeypatch.setenv("HTTPS_PROXY", way.endpoint)
        assert web_files.find(f"{address}/train.jsonl").size == len(LINES)
        assert way.asked == [address.removeprefix("https://")]
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert web_files.find(f"{address}/train.jsonl").size == len(LINES)
        assert len(way.asked) == 1


def test_a_proxy_that_wants_a_name_is_not_asked_for_ever(
    company: Authority, web: StubWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = web.endpoint.replace("127.0.0.1", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(company.certificate))
    with proxy("me:a-password") as way:
        monkeypatch.setenv("HTTPS_PROXY", way.endpoint.replace("http://", "http://me:a-wrong-one@"))
        with pytest.raises(ExpectedError, match="The proxy lets nobody through") as raised:
            web_files.find(f"{address}/train.jsonl")
        assert (raised.value.reason, raised.value.cause) == (Reason.ACCESS_DENIED, Cause.USER)
        assert "a-wrong-one" not in str(raised.value)
        monkeypatch.setenv("HTTPS_PROXY", way.endpoint.replace("http://", "http://me:a-password@"))
        assert web_files.find(f"{address}/train.jsonl").size == len(LINES)
