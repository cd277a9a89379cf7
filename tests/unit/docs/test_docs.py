"""What the documents show is what the code does: manifests are valid, settings are complete, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from finetune_operator.cli.validate import validate
from finetune_operator.settings import OperatorSettings

ROOT = Path(__file__).parents[3]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests/support/README.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def manifests() -> list[tuple[str, str]]:
    documents = [(str(path.relative_to(ROOT)), path.read_text()) for path in sorted((ROOT / "examples").glob("*.yaml"))]
    for page in PAGES:
        blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)
        documents += [(f"{page.relative_to(ROOT)}#{number}", text) for number, text in enumerate(blocks)]
    return documents


@pytest.mark.parametrize(("where", "text"), manifests(), ids=[where for where, _ in manifests()])
def test_every_manifest_shown_is_valid(where: str, text: str) -> None:
    assert validate(yaml.safe_load(text)) == ()


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/install.md").read_text()
    documented = set(re.findall(r"^\| `FINETUNE_OPERATOR_(\w+)`", page, flags=re.MULTILINE))
    assert documented == {name.upper() for name in OperatorSettings.model_fields}


@pytest.mark.parametrize("script", ["generate_reference.py", "generate_troubleshooting.py", "generate_architecture.py"])
def test_generated_pages_are_up_to_date(script: str) -> None:
    checked = subprocess.run([sys.executable, ROOT / "scripts" / script, "--check"], check=False)
    assert checked.returncode == 0, f"run `make generate`: {script} writes another page"


def test_every_reason_to_wait_is_in_troubleshooting() -> None:
    source = (ROOT / "operator/finetune_operator/plan/stages/spec_checks.py").read_text()
    page = (ROOT / "docs/troubleshooting.md").read_text()
    reasons = set(re.findall(r'Problem\(\s*"(\w+)"', source))
    assert len(reasons) > 5
    assert {reason for reason in reasons if f"| `{reason}` |" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_to_files(page: Path) -> None:
    without_code = re.sub(r"`[^`\n]*`", "", page.read_text())
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", without_code)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
