"""stats: every figure of a small dataset, counted by hand."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
from builders import convert, make_episode, shard_path, write_tfds_folder
from converted import converted_once, copy_converted, run_ilv

from ilv_dataset.outputs import find_outputs
from ilv_dataset.statistics import Counts, count_output, output_statistics, percentiles


@pytest.fixture(scope="module")
def figures():
    (layout,) = find_outputs(str(converted_once()))
    return output_statistics(layout, count_output(layout))


def test_account_a_split(figures):
    assert figures["account"] == {
        "train": {
            "episodes_promised": 4,
            "episodes_seen": 4,
            "in": 5,
            "interleaved": 3,
            "text_only": 1,
            "rejected": 1,
            "failed": 0,
        },
        "val": {
            "episodes_promised": 2,
            "episodes_seen": 2,
            "in": 2,
            "interleaved": 1,
            "text_only": 0,
            "rejected": 0,
            "failed": 1,
        },
    }


def test_reasons(figures):
    assert figures["reasons"] == [
        {"status": "failed", "reason": "undecodable-image", "spans": 1},
        {"status": "rejected", "reason": "empty-instruction", "spans": 1},
        {"status": "text_only", "reason": "no-crop", "spans": 1},
    ]


def test_objects_and_phrases(figures):
    objects = figures["objects"]
    assert (objects["count"], objects["grounded"], objects["distinct_phrases"]) == (7, 6, 3)
    assert objects["by_kind"] == [
        {"kind": "object", "count": 4, "grounded": 3},
        {"kind": "container", "count": 3, "grounded": 3},
    ]
    assert objects["by_reason"] == {"absent": 1}
    assert objects["top_phrases"] == [
        {"phrase": "carrot", "count": 3, "grounded": 3},
        {"phrase": "plate", "count": 3, "grounded": 3},
        {"phrase": "banana", "count": 1, "grounded": 0},
    ]


def test_crops(figures):
    assert figures["images_per_span"] == {"1": 2, "2": 2}
    crops = figures["crops"]
    assert crops["count"] == 6
    assert crops["by_camera"] == {"observation/image": 6}
    assert crops["by_step_of_span"] == {"0": 6}
    # The carrot is 16 px wide, 22.4 with its padding: 224 / 23. The plate 24, 33.6: 224 / 34.
    assert crops["scale"] == {"p5": 6.588, "p25": 6.588, "p50": 6.588, "p75": 9.739, "p95": 9.739}
    assert crops["box_score"]["p50"] == 1.0


def test_sizes_are_those_of_the_files(figures):
    root = converted_once() / "ilv_demo" / "1.0.0"
    for kind in ("episodes", "instructions", "steps"):
        size = sum(path.stat().st_size for path in (root / kind).iterdir())
        assert figures["bytes"][kind] == size


def test_a_run_that_is_not_complete_is_counted_from_its_markers(tmp_path, figures):
    root = copy_converted(tmp_path)
    (root / "run.json").unlink()
    (layout,) = find_outputs(str(root))
    found = output_statistics(layout, count_output(layout))
    assert found["complete"] is False
    assert found["account"] == figures["account"]
    assert found["bytes"]["episodes"] == figures["bytes"]["episodes"]


def row(**changes: object) -> dict[str, object]:
    return {
        "span": 0,
        "status": "failed",
        "reason": "",
        "images": [],
        "objects": [],
        "step_start": 0,
        "source_shard": "a",
        **changes,
    }


def test_episodes_that_were_promised_and_not_there_are_not_seen():
    counts = Counts()
    for reason in ("missing-record", "missing-shard", "wrong-checksum"):
        counts.add("train", row(reason=reason))
    counts.add("train", row(span=1, reason="undecodable-image"))
    split = counts.splits["train"]
    assert (split.num_promised, split.num_seen, split.by_status["failed"]) == (3, 1, 4)


def test_shards_are_damaged_that_fetching_again_may_mend():
    counts = Counts()
    for shard, reason in (("a", "wrong-checksum"), ("b", "no-steps"), ("c", "missing-shard")):
        counts.add("train", row(source_shard=shard, reason=reason))
    assert counts.damaged == {"a", "c"}


def test_phrases_are_counted_whatever_their_case():
    counts = Counts()
    found = {"phrase": "Pot", "kind": "container", "grounded": False, "reason": "absent"}
    counts.add("train", row(status="text_only", objects=[found, {**found, "phrase": "pot"}]))
    assert counts.phrases == {("pot", False): 2}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, {}),
        ({3.0: 1}, {"p5": 3.0, "p25": 3.0, "p50": 3.0, "p75": 3.0, "p95": 3.0}),
        # Of 1 to 20, the 1st, 5th, 10th, 15th and 19th.
        (
            {float(n): 1 for n in range(1, 21)},
            {"p5": 1.0, "p25": 5.0, "p50": 10.0, "p75": 15.0, "p95": 19.0},
        ),
    ],
)
def test_percentiles_by_nearest_rank(counts, expected):
    assert percentiles(Counter(counts)) == expected


def test_stats_prints_plain_tables_and_json():
    shown = run_ilv("stats", converted_once()).stdout.splitlines()
    assert shown[0] == "ilv_demo 1.0.0"
    assert (
        "train                  4              4   5            3          1         1       0"
        in shown
    )
    assert "why spans are not interleaved" in shown
    (line,) = run_ilv("stats", converted_once(), "--json").stdout.splitlines()
    assert json.loads(line)["images_per_span"] == {"1": 2, "2": 2}


def test_stats_name_the_damaged_shards(tmp_path):
    data = write_tfds_folder(tmp_path / "data", {"train": [[make_episode()], [make_episode()]]})
    shard_path(data, index=1, count=2).unlink()
    convert(data, tmp_path / "out")
    lines = run_ilv("stats", tmp_path / "out").stdout.splitlines()
    at = lines.index(
        "damaged or missing in the source; once they are fetched again, run the same command:"
    )
    assert lines[at + 1 : at + 3] == ["  ilv_demo-train.tfrecord-00001-of-00002", ""]


def test_stats_of_a_damaged_table_is_one_line(tmp_path):
    root = copy_converted(tmp_path)
    (root / "episodes" / "val-00000-of-00001.parquet").write_bytes(b"PAR1")
    done = run_ilv("stats", root)
    assert done.exit_code == 1
    assert "val-00000-of-00001.parquet: not a readable Parquet file" in done.stderr


def test_stats_without_any_shard_has_no_figures(tmp_path):
    root = copy_converted(tmp_path)
    for folder in (".state/ground", "episodes"):
        shutil.rmtree(root / folder)
    done = run_ilv("stats", root)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[2:5] == [
        "",
        "no span is grounded yet: run the same command again, or `ilv ground` next",
        "",
    ]
