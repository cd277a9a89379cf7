"""A user's program runs as `python FILE` or `python -m MODULE` would run it, with its arguments complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.script import Script
from finetune_trainer.script.program import command_line, expanded
from tests.support.patience import PATIENCE_SECONDS
from tests.support.scripts import script_config

PACKAGES = Path(__file__).parents[4] / "trainer_image"
RUN = """
import json, os, sys
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.script import program
from finetune_trainer.shared.failures import ExpectedError
try:
    program.run(ScriptConfig.model_validate_json(sys.argv[1]), Prepared.model_validate_json(sys.argv[2]))
except ExpectedError as error:
    print(error.failure.to_json())
except SystemExit as error:
    print(json.dumps(["exit", error.code]))
except ZeroDivisionError as error:
    print(json.dumps(["raised", str(error)]))
"""
SHOW = """
import json, os, sys
import beside
main = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(), "name": __name__, "file": __file__, "beside": beside.VALUE,
    "main": main.__name__, "is main": vars(main) is globals(), "env": dict(os.environ),
}))
"""


def run(config: dict[str, Any], prepared: Mapping[str, Any] | None = None, **env: str) -> Any:
    """Run a program in a process of its own; return the JSON that it prints."""
    made = script_config(**config)
    left = Prepared.model_validate({"config_digest": "", **(prepared or {})})
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FINETUNE_PATHS")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, made.to_json(), left.to_json()],
        env={**known, "PYTHONPATH": str(PACKAGES), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a folder with a program, and a module beside it."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(SHOW)
    (folder / "beside.py").write_text("VALUE = 'imported'")
    return folder


def test_file_runs_as_python_would_run_it(tmp_path: Path, code: Path) -> None:
    output = tmp_path / "volume" / "reviews" / "runs" / "u" / "output"
    script = {"path": str(code / "train.py"), "arguments": ["--out=$(OUTPUT_DIR)", "a b", "", "$(UNKNOWN)"]}
    shown = run({"output": tmp_path / "volume", "script": script}, OUTPUT_DIR=str(output))
    assert shown["argv"] == [str(code / "train.py"), f"--out={output}", "a b", "", "$(UNKNOWN)"]
    assert shown["path"] == str(code)
    assert shown["cwd"] == str(output), "made for the program, and kept with the job"
    assert (shown["name"], shown["main"], shown["is main"]) == ("__main__", "__main__", True)
    assert (shown["file"], shown["beside"]) == (str(code / "train.py"), "imported")
    assert shown["env"]["DATA_DIR"] == ""


def test_module_runs_as_python_m_would_run_it(tmp_path: Path, code: Path) -> None:
    package = tmp_path / "site" / "mine" / "scripts"
    package.mkdir(parents=True)
    (package / "sft.py").write_text(SHOW)
    (tmp_path / "site" / "beside.py").write_text("VALUE = 'of the image'")
    config = {
        "output": tmp_path / "volume",
        "script": {"path": None, "module": "mine.scripts.sft", "arguments": ["--x"]},
    }
    shown = run(config, PYTHONPATH=f"{PACKAGES}:{tmp_path / 'site'}")
    assert shown["argv"] == [str(package / "sft.py"), "--x"]
    assert (shown["path"], shown["name"], shown["is main"]) == (shown["cwd"], "__main__", True)
    assert shown["beside"] == "of the image"


def test_program_finds_its_packages_its_data_and_its_checkpoint(tmp_path: Path, code: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "beside.py").write_text("VALUE = 'required'")
    (code / "beside.py").unlink()
    script = {"path": str(code / "train.py"), "arguments": ["$(DATA_DIR)/a.csv"], "checkpoint_argument": "--resume"}
    prepared = {"packages": str(packages), "data": str(tmp_path)}
    shown = run(
        {"output": tmp_path, "script": script}, prepared, RESUME_FROM_CHECKPOINT="/c/step_4", MINE="$(DATA_DIR)/x"
    )
    assert shown["beside"] == "required"
    assert shown["argv"][1:] == [f"{tmp_path}/a.csv", "--resume", "/c/step_4"]
    assert shown["env"]["MINE"] == f"{tmp_path}/x", "what kubelet did not know"
    assert shown["env"]["PYTHONPATH"].split(":") == [str(packages), str(PACKAGES)], "for processes that it starts"


def test_missing_file_is_named(tmp_path: Path) -> None:
    failure = run({"output": tmp_path / "volume", "script": {"path": "/code/missing.py"}})
    assert (failure["reason"], failure["cause"]) == ("FileNotFound", "user")
    assert "/code/missing.py" in failure["message"]


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("import sys; sys.exit(3)", ["exit", 3]),
        ("raise SystemExit('no data')", ["exit", "no data"]),
        ("1 / 0", ["raised", "division by zero"]),
    ],
)
def test_end_of_the_program_is_the_callers(tmp_path: Path, code: Path, text: str, end: list[Any]) -> None:
    (code / "train.py").write_text(text)
    assert run({"output": tmp_path / "volume", "script": {"path": str(code / "train.py")}}) == end


def test_spawned_processes_find_the_programs_functions(tmp_path: Path, code: Path) -> None:
    """Loaders of data that are spawned import the program's file again."""
    (code / "train.py").write_text(
        "import json, multiprocessing\n"
        "def double(number): return 2 * number\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(json.dumps(pool.map(double, [1, 2])))\n"
    )
    assert run({"output": tmp_path / "volume", "script": {"path": str(code / "train.py")}}) == [2, 4]


# --- arguments --------------------------------------------------------------------------------------------------------

ENV = {"OUTPUT_DIR": "/output/x", "EMPTY": "", "NESTED": "$(OUTPUT_DIR)", "_a1": "under"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(OUTPUT_DIR)", "/output/x"),
        ("--out=$(OUTPUT_DIR)/a,$(OUTPUT_DIR)", "--out=/output/x/a,/output/x"),
        ("$$(OUTPUT_DIR)", "$(OUTPUT_DIR)"),
        ("$$$(OUTPUT_DIR)", "$$(OUTPUT_DIR)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(UNKNOWN)", "$(UNKNOWN)"),
        ("[$(EMPTY)]", "[]"),
        ("$(NESTED)", "$(OUTPUT_DIR)"),
        ("$(_a1)", "under"),
        ("$OUTPUT_DIR ${OUTPUT_DIR} $() $(A B) $(1A) $( OUTPUT_DIR ) $(OUTPUT_DIR", None),
        ("100$ $$ $", None),
    ],
)
def test_variables_take_the_place_of_their_names(text: str, result: str | None) -> None:
    assert expanded(text, ENV) == (text if result is None else result)


@given(st.text(st.sampled_from("$()AB_ "), max_size=20))
def test_text_without_known_names_loses_only_escapes(text: str) -> None:
    shown = expanded(text, {})
    assert shown.replace("$", "") == text.replace("$", "")
    assert ("$$(" in text) or shown == text


def line(resume: str, **fields: Any) -> list[str]:
    script = Script.model_validate({"path": "/a.py", "arguments": ["--lr", "$(LR)"], **fields})
    return command_line(script, {"LR": "1", "RESUME_FROM_CHECKPOINT": resume})


def test_checkpoint_comes_last_and_only_where_there_is_one() -> None:
    assert line("/c/step_4", checkpoint_argument="--resume") == ["--lr", "1", "--resume", "/c/step_4"]
    assert line("", checkpoint_argument="--resume") == ["--lr", "1"]
    assert line("/c/step_4") == ["--lr", "1"]
    assert line("/c/$(LR)", checkpoint_argument="-r") == ["--lr", "1", "-r", "/c/$(LR)"], "a folder is no pattern"
