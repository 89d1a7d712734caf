import dataclasses
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from converted import ROOT, change_json, converted_once, copy_converted, rewrite_rows, run_ilv

from ilv_dataset.dataset_reader import StepColumns, open_dataset
from ilv_dataset.errors import ConfigError
from ilv_dataset.step_statistics import (
    StepStatistics,
    load_statistics,
    measure_steps,
    statistics_by_dataset,
    steps_digest,
)

COLUMNS = StepColumns("observation/image", False, ("observation/half",), ("action",))


def test_statistics_of_three_steps():
    found = StepStatistics.of(np.array([[1.0], [2.0], [6.0]]), np.array([[0.0, 5], [0, 5], [3, 5]]))
    assert found.num_steps == 3
    assert found.state_mean == (3.0,)
    assert found.state_std == pytest.approx((2.1602469,))  # sqrt((4 + 1 + 9) / 3)
    assert found.action_mean == (1.0, 5.0)
    assert found.action_std == pytest.approx((1.4142136, 0.0))  # sqrt((1 + 1 + 4) / 3)


def test_merged_statistics_are_those_of_all_steps():
    rng = np.random.default_rng(0)
    states, actions = rng.normal(1e4, 1, (100, 3)), rng.normal(size=(100, 2))
    cuts = [0, 1, 40, 99, 100]
    parts = [StepStatistics.of(states[a:b], actions[a:b]) for a, b in pairwise(cuts)]
    merged = parts[0].merge(parts[1]).merge(parts[2]).merge(parts[3])
    assert merged.num_steps == 100
    assert merged.state_mean == pytest.approx(tuple(states.mean(axis=0)), rel=1e-14)
    assert merged.state_std == pytest.approx(tuple(states.std(axis=0)), rel=1e-12)
    assert merged.action_std == pytest.approx(tuple(actions.std(axis=0)), rel=1e-12)


def test_statistics_of_other_widths_do_not_merge():
    one, other = (StepStatistics.of(np.ones((1, 2)), np.ones((1, n))) for n in (7, 6))
    with pytest.raises(ConfigError, match=r"states and actions have \(2, 7\) and \(2, 6\) numbers"):
        one.merge(other)


def test_normalized_actions_come_back():
    found = StepStatistics(4, (2.0,), (0.5,), (1.0, -3.0), (2.0, 0.0))
    assert found.normalize_states(np.array([[3.0]])).tolist() == [[2.0]]
    normalized = found.normalize_actions(np.array([[5.0, -2.0]], np.float32))
    assert normalized.dtype == np.float32
    assert normalized.tolist() == [[2.0, 1.0]]  # a number that never changed is moved alone
    assert found.denormalize_actions(normalized).tolist() == [[5.0, -2.0]]


def test_statistics_go_through_json_with_every_digit():
    found = StepStatistics.of(np.array([[0.1], [1 / 3]]), np.array([[2 / 7], [1e-9]]))
    assert StepStatistics.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises(ConfigError, match="not the statistics of steps: KeyError"):
        StepStatistics.from_json({})
    unusable = dataclasses.replace(found, action_mean=(float("nan"),)).to_json()
    with pytest.raises(ConfigError, match="a number is not finite"):
        StepStatistics.from_json(unusable)


@pytest.mark.parametrize("form", ["parquet", "rlds"])
def test_every_step_of_a_split_counts(form):
    # Spans of 2, 2 and 3 steps; "half" is the step in the episode + 0.5, an action a step / 8.
    shards = open_dataset(str(converted_once()), "train", format=form).shards
    found = measure_steps(shards, COLUMNS)
    steps = np.array([0, 1, 0, 1, 2, 3, 4])
    assert found.num_steps == 7
    assert found.state_mean == pytest.approx((steps.mean() + 0.5,))
    assert found.action_mean == pytest.approx((steps.mean() / 8,) * 7)
    assert found.action_std == pytest.approx((steps.std() / 8,) * 7)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_error_names_the_column_and_span_of_a_value_that_is_not_finite(tmp_path, value):
    root = copy_converted(tmp_path)

    def spoil(rows):  # the second span
        rows[3]["action"] = [0.0, value, 0.0, 0.0, 0.0, 0.0, 0.0]

    rewrite_rows(root, "steps/train-00000-of-00002.parquet", spoil)
    shards = open_dataset(str(root), "train").shards
    place = "the column 'action' of .*-00000-of-00002__1#0 has a value that is not finite"
    with pytest.raises(ConfigError, match=f"{root}: {place}"):
        load_statistics(shards, COLUMNS)


def test_statistics_are_taken_once_and_validate_takes_no_offence(tmp_path):
    root = copy_converted(tmp_path)
    shards = open_dataset(str(root), "train").shards
    found = load_statistics(shards, COLUMNS)
    (kept,) = (tmp_path / "out" / ".cache" / "statistics").iterdir()
    assert kept.name.startswith("ilv_demo-1.0.0-")
    for shard in shards:
        Path(shard.path).unlink()  # so they cannot be taken again
    assert load_statistics(shards, COLUMNS) == found
    shutil.rmtree(root)
    shutil.copytree(converted_once() / ROOT, root)
    assert run_ilv("validate", tmp_path / "out").exit_code == 0
    kept.write_text("cut {")
    assert load_statistics(shards, COLUMNS) == found


def test_digest_changes_with_split_format_columns_and_steps(tmp_path):
    root = copy_converted(tmp_path)

    def digest(split: str, form: str, action: str = "action") -> str:
        shards = open_dataset(str(root), split, format=form).shards
        columns = StepColumns("observation/image", False, (), (action,))
        return steps_digest(shards, {shards[0].layout: columns})

    before = digest("train", "parquet")
    other = digest("val", "parquet"), digest("train", "rlds"), digest("train", "parquet", "reward")
    assert len({before, *other}) == 4
    marker = root / ".state" / "steps" / "train-00000-of-00002.json"
    content = json.loads(marker.read_text())
    content["files"][0]["crc32c"] = "00000000"
    marker.write_text(json.dumps(content))
    assert digest("train", "parquet") not in (before, *other)


def test_digest_changes_with_the_spans_that_are_left_out(tmp_path):
    root = copy_converted(tmp_path)

    def digest(has_text_only: bool) -> str:
        shards = open_dataset(str(root), "train").shards
        columns = {shards[0].layout: COLUMNS}
        return steps_digest(shards, columns, has_text_only=has_text_only)

    before = digest(True), digest(False)
    marker = root / ".state" / "ground" / "train-00000-of-00002.json"
    change_json(marker, lambda made: made["files"][0].update(crc32c="00000000"))
    assert digest(True) == before[0]
    assert digest(False) not in before


def test_outputs_of_one_dataset_are_taken_together(tmp_path):
    shards = open_dataset(str(converted_once()), "train").shards
    copied = open_dataset(str(copy_converted(tmp_path)), "val").shards
    columns = {shard.layout: COLUMNS for shard in (*shards, *copied)}
    (found,) = statistics_by_dataset((*shards, *copied), columns).values()
    assert found.num_steps == 7 + 3
