import dataclasses
import json
import subprocess
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ilv_dataset.cli import main
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats import atomic
from ilv_dataset.proof import __main__ as command
from ilv_dataset.proof import experiment, trying
from ilv_dataset.proof.experiment import (
    Scale,
    convert,
    cut_log,
    keep_experiment,
    list_jobs,
    policy_folder,
    run_experiment,
    split_sizes,
)
from ilv_dataset.proof.tables import format_table, read_results

TINY = Scale(num_train=6, num_trials=2, seeds=(0,), steps=2, batch=4, image_px=32)
DONE = SimpleNamespace(returncode=0)


def test_every_policy_is_told_in_its_ways_in_every_test():
    jobs = list_jobs(Scale(seeds=(0, 1)))
    # 2 seeds, 4 tests; a policy of text in 2 ways, one of pictures in 6.
    assert len(jobs) == 2 * 4 * (2 + 6)
    assert len({job.file_name for job in jobs}) == len(jobs)


def test_each_test_has_a_split_and_one_for_its_bank():
    sizes = split_sizes(Scale(num_train=10, num_trials=4))
    assert sizes["train"] == 10
    assert len(sizes) == 9
    assert sizes["nouns"] == sizes["nouns_bank"] == 4


def test_a_folder_is_of_one_scale_on_whatever_device(tmp_path):
    keep_experiment(tmp_path, TINY)
    keep_experiment(tmp_path, dataclasses.replace(TINY, device="cuda"))
    with pytest.raises(ConfigError, match=r"experiment: num_train 6, not 7, steps 2, not 60; name"):
        keep_experiment(tmp_path, dataclasses.replace(TINY, num_train=7, steps=60))


def test_a_folder_is_of_one_set_of_bundled_weights(tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    monkeypatch.setattr(experiment, "list_bundled", lambda: [("sam", "small", weights)])
    weights.write_bytes(b"first")
    keep_experiment(tmp_path, TINY)
    weights.write_bytes(b"second")
    with pytest.raises(ConfigError, match="sam:small "):
        keep_experiment(tmp_path, TINY)


def test_demonstrations_of_an_unknown_experiment_are_refused(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(ConfigError, match=r"without its experiment\.json"):
        keep_experiment(tmp_path, TINY)


def test_two_runs_at_once_are_refused(tmp_path):
    with (
        atomic.locked_output(str(tmp_path)),
        pytest.raises(ConfigError, match="another run is writing"),
    ):
        run_experiment(tmp_path, TINY, workers=1, say=print)


@pytest.mark.parametrize(
    ("options", "folder"), [([], "out/proof"), (["--quick"], "out/proof-quick")]
)
def test_a_quick_run_has_a_folder_of_its_own(options, folder, monkeypatch):
    def stop(out, *_, **__):
        raise ConfigError(f"in {out}")

    monkeypatch.setattr(command, "run_experiment", stop)
    assert CliRunner().invoke(command.main, options).stderr == f"Error: in {folder}\n"


def test_losses_after_the_step_that_was_saved_are_forgotten(tmp_path):
    cut_log(tmp_path, 0)
    assert (tmp_path / "losses.csv").read_text() == ""
    (tmp_path / "losses.csv").write_text("200,0.5\n400,0.25\n600,0.125\n")
    cut_log(tmp_path, 400)
    assert (tmp_path / "losses.csv").read_text() == "200,0.5\n400,0.25\n"


def test_the_conversion_calls_itself_ilv(tmp_path, monkeypatch):
    commands, run = [], subprocess.run
    fake = SimpleNamespace(run=lambda command, **_: commands.append(command) or DONE)
    monkeypatch.setattr(experiment, "subprocess", fake)
    convert(tmp_path)
    helped = run([*commands[0][:5], "--help"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("Usage: ilv convert ")


@pytest.mark.slow
def test_experiment_runs_from_nothing_to_its_table_and_goes_on(tmp_path):
    pytest.importorskip("pybullet")
    run_experiment(tmp_path, TINY, workers=1, say=print)
    results = read_results(tmp_path / "rollouts")
    assert format_table(results).count("\n") == 11
    assert len(results.scenes["interleaved", "own", "nouns"]) == 2
    weights = policy_folder(tmp_path, "text", 0) / "policy.safetensors"
    before = weights.stat().st_mtime_ns
    lost = tmp_path / "rollouts" / "text-0-known-text.json"
    kept = json.loads(lost.read_text())
    lost.unlink()
    run_experiment(tmp_path, TINY, workers=1, say=print)
    assert json.loads(lost.read_text()) == kept
    assert weights.stat().st_mtime_ns == before
    options = ["--test", "nouns", "--trials", "1", "--out", str(tmp_path / "one")]
    run = CliRunner().invoke(main, ["rollout", str(weights.parent), *options])
    assert run.exit_code == 0, run.output
    result = json.loads((tmp_path / "one" / "result.json").read_text())
    assert (result["trials"], result["told"]) == (1, "text")
    assert (tmp_path / "one" / "rollout.gif").stat().st_size > 1000


def test_a_folder_without_a_policy_is_refused(tmp_path):
    run = CliRunner().invoke(main, ["rollout", str(tmp_path), "--out", str(tmp_path / "one")])
    assert run.exit_code == 1
    assert "policy" in run.output


def test_a_policy_of_another_dataset_is_refused(tmp_path, monkeypatch):
    learned = SimpleNamespace(statistics={"ilv_demo": None})
    monkeypatch.setattr(trying, "Settings", SimpleNamespace(read=lambda folder: learned))
    run = CliRunner().invoke(main, ["rollout", str(tmp_path), "--out", str(tmp_path / "one")])
    assert run.exit_code == 1
    assert "learned from ilv_demo, not from ilv_proof" in run.output
