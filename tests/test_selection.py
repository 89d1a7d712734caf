import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.dataset_info import DatasetInfo, SplitInfo
from ilv_dataset.records import ShardKey
from ilv_dataset.selection import ShardPlan, select_records

# The first digits of the SHA-256 of the file names, as sha256sum prints them, with the lengths:
#   21eb toy-train.tfrecord-00000-of-00004  3
#   6cad toy-val.tfrecord-00000-of-00002    2
#   b7ca toy-train.tfrecord-00001-of-00004  2
#   d121 toy-train.tfrecord-00003-of-00004  4
#   e3b8 toy-val.tfrecord-00001-of-00002    1
#   f5b9 toy-train.tfrecord-00002-of-00004  0
TOY = DatasetInfo(
    name="toy",
    config_name="",
    version="1.0.0",
    splits=(SplitInfo("train", (3, 2, 0, 4), 0, ""), SplitInfo("val", (2, 1), 0, "")),
    citation="",
    license="",
)


def chosen(**options):
    return {plan.key.name: plan.num_selected for plan in select_records(TOY, **options)}


def test_select_records_without_a_cap_takes_all():
    assert chosen(splits=["train", "val"]) == {
        "train-00000-of-00004": 3,
        "train-00001-of-00004": 2,
        "train-00003-of-00004": 4,
        "val-00000-of-00002": 2,
        "val-00001-of-00002": 1,
    }


def test_select_records_without_splits_takes_every_split():
    assert select_records(TOY) == select_records(TOY, splits=["val", "train", "val"])


def test_select_records_under_a_cap_takes_whole_shards_then_the_first_of_the_last():
    assert select_records(TOY, splits=["train", "val"], max_episodes=6) == (
        ShardPlan(ShardKey("train", 0, 4), "toy-train.tfrecord-00000-of-00004", 3, 3),
        ShardPlan(ShardKey("train", 1, 4), "toy-train.tfrecord-00001-of-00004", 2, 1),
        ShardPlan(ShardKey("val", 0, 2), "toy-val.tfrecord-00000-of-00002", 2, 2),
    )


@pytest.mark.parametrize(
    ("splits", "max_episodes", "expected"),
    [
        (["train", "val"], 1, {"train-00000-of-00004": 1}),
        (["train", "val"], 5, {"train-00000-of-00004": 3, "val-00000-of-00002": 2}),
        (["train"], 4, {"train-00000-of-00004": 3, "train-00001-of-00004": 1}),
        (["val"], 2, {"val-00000-of-00002": 2}),
        (["val"], 3, {"val-00000-of-00002": 2, "val-00001-of-00002": 1}),
        (["val"], 1000, {"val-00000-of-00002": 2, "val-00001-of-00002": 1}),
    ],
)
def test_select_records_at_the_bounds_of_shards(splits, max_episodes, expected):
    assert chosen(splits=splits, max_episodes=max_episodes) == expected


def test_a_larger_cap_only_adds_records():
    for cap in range(1, 13):
        less, more = chosen(max_episodes=cap), chosen(max_episodes=cap + 1)
        assert sum(less.values()) == min(cap, 12)
        assert all(more[name] >= number for name, number in less.items())


def test_select_records_of_an_unknown_split():
    with pytest.raises(ConfigError, match=r"no split 'test' in toy 1.0.0; splits: train, val"):
        select_records(TOY, splits=["train", "test"])


@pytest.mark.parametrize("max_episodes", [0, -1])
def test_select_records_of_a_cap_below_one(max_episodes):
    with pytest.raises(ConfigError, match="at least 1, got"):
        select_records(TOY, max_episodes=max_episodes)


def test_select_records_of_a_dataset_without_splits():
    empty = DatasetInfo("toy", "", "1.0.0", (), "", "")
    assert select_records(empty, max_episodes=5) == ()
