"""Pod paths and folders of this machine."""

from pathlib import Path

from finetune_trainer.shared.paths import Paths

PATHS = Paths({"/output": "/work/claims/a", "/output/shared": "/mnt/shared", "/etc/finetune": "/tmp/x"})


def test_longest_prefix_wins() -> None:
    assert PATHS.to_local("/output/reviews/model") == Path("/work/claims/a/reviews/model")
    assert PATHS.to_local("/output/shared/data.csv") == Path("/mnt/shared/data.csv")


def test_prefix_is_of_whole_names() -> None:
    assert PATHS.to_local("/output-2/x") == Path("/output-2/x")


def test_path_under_no_mount_is_taken_as_it_is() -> None:
    assert PATHS.to_local("/data/train.csv") == Path("/data/train.csv")
    assert PATHS.to_pod(Path("/data/train.csv")) == "/data/train.csv"


def test_there_and_back() -> None:
    for path in ("/output", "/output/reviews", "/output/shared/x/y", "/etc/finetune/run.json", "/elsewhere"):
        assert PATHS.to_pod(PATHS.to_local(path)) == path


def test_dots_do_not_leave_the_mount_unseen() -> None:
    assert PATHS.to_local("/output/../data") == Path("/data")


def test_without_the_variable_nothing_is_mapped() -> None:
    assert Paths.from_text(None).to_local("/output/x") == Path("/output/x")
    assert Paths.from_text("").to_local("/output/x") == Path("/output/x")
