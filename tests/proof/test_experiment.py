import json

import pytest
from click.testing import CliRunner

from ilv_dataset.cli import main
from ilv_dataset.proof.experiment import (
    Scale,
    list_jobs,
    policy_folder,
    run_experiment,
    split_sizes,
)
from ilv_dataset.proof.tables import format_table, read_results

TINY = Scale(num_train=6, num_trials=2, seeds=(0,), steps=2, batch=4, image_px=32)


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


@pytest.mark.slow
def test_experiment_runs_from_nothing_to_its_table_and_goes_on(tmp_path):
    pytest.importorskip("pybullet")
    run_experiment(tmp_path, TINY, workers=1, say=print)
    results = read_results(tmp_path / "rollouts")
    assert format_table(results).count("\n") == 11
    assert results.shares["interleaved", "own", "nouns"].total == 2
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
