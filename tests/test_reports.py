import pytest

from ilv_dataset.errors import IlvError
from ilv_dataset.formats.atomic import FileSummary
from ilv_dataset.formats.markers import Marker
from ilv_dataset.reports import Account, describe_account, make_account, run_summary


def scanned(spans, episodes):
    return Marker({}, (), {"spans": spans, "episodes": episodes, "failed": 0})


ACCOUNT = Account(
    num_in=1234,
    num_episodes=1000,
    by_status={"interleaved": 1200, "text_only": 4, "rejected": 10, "failed": 20},
    by_reason={
        "rejected:empty-instruction": 10,
        "failed:no-steps": 5,
        "failed:missing-record": 15,
        "text_only:no-crop": 4,
    },
)


def test_make_account_adds_up():
    counts = [
        {"interleaved": 2, "text_only": 0, "rejected": 1, "failed": 0},
        {"interleaved": 1, "failed": 1, "failed:no-steps": 1},
    ]
    account = make_account(
        [scanned(3, 2), scanned(2, 2)], [Marker({}, (), found) for found in counts]
    )
    assert account == Account(
        num_in=5,
        num_episodes=4,
        by_status={"interleaved": 3, "text_only": 0, "rejected": 1, "failed": 1},
        by_reason={"failed:no-steps": 1},
    )
    assert account.failed_share == 0.2


def test_an_account_of_nothing():
    account = make_account([], [])
    assert (account.num_in, account.failed_share) == (0, 0.0)


def test_an_account_that_does_not_balance_is_an_error():
    with pytest.raises(IlvError, match="does not balance: 3 spans went in, 2 came out"):
        make_account([scanned(3, 1)], [Marker({}, (), {"interleaved": 2})])


def test_describe_account_puts_the_commonest_reason_first():
    assert describe_account(ACCOUNT) == [
        "1,234 spans of 1,000 episodes = 1,200 interleaved + 4 text_only + 10 rejected + 20 failed",
        "         15 failed: missing-record",
        "         10 rejected: empty-instruction",
        "          5 failed: no-steps",
        "          4 text_only: no-crop",
    ]


def test_describe_account_of_one():
    account = make_account([scanned(1, 1)], [Marker({}, (), {"interleaved": 1})])
    (line,) = describe_account(account)
    assert line.startswith("1 span of 1 episode = 1 interleaved + ")


def test_run_summary():
    file = FileSummary("a/b", 3, "364b3fb7")
    markers = {"episodes": [Marker({}, (file,), {"spans": 2}), Marker({}, (), {"spans": 1})]}
    found = run_summary({"--detector": "source"}, ACCOUNT, markers, formats=["rlds", "parquet"])
    assert found["config"] == {"--detector": "source"}
    assert found["formats"] == ["parquet", "rlds"]
    assert found["counts"] == {"episodes": {"spans": 3}}
    assert found["files"] == [{"path": "a/b", "num_bytes": 3, "crc32c": "364b3fb7"}]
    assert found["account"]["by_status"]["failed"] == 20
    assert {"python", "pyarrow", "apache-beam"} <= found["versions"].keys()
