"""What models were asked, by all processes of all runs."""

import pytest

from ilv_dataset.errors import StorageError
from ilv_dataset.layout import Layout
from ilv_dataset.ledgers import Ledger, describe_spent, read_spent

ONE = {"requests": 2, "tokens_in": 30, "tokens_out": 4, "cache_hits": 1}


def test_processes_are_added_up_by_role(tmp_path):
    layout = Layout(str(tmp_path), "d", "1.0.0")
    first = Ledger(layout, "extractor")
    first.save(ONE)
    first.save({**ONE, "requests": 3})  # the same process, later
    Ledger(layout, "extractor").save(ONE)
    Ledger(layout, "verifier").save({**ONE, "cost": 0.5})
    assert read_spent(layout) == {
        "extractor": {"requests": 5, "tokens_in": 60, "tokens_out": 8, "cache_hits": 2},
        "verifier": {**ONE, "cost": 0.5},
    }


def test_there_is_a_cost_where_all_processes_knew_the_prices(tmp_path):
    layout = Layout(str(tmp_path), "d", "1.0.0")
    for spent in ({**ONE, "cost": 0.5}, {**ONE, "cost": 0.25}):
        Ledger(layout, "verifier").save(spent)
    assert read_spent(layout)["verifier"]["cost"] == 0.75
    Ledger(layout, "verifier").save(ONE)
    assert "cost" not in read_spent(layout)["verifier"]


def test_nothing_asked_leaves_nothing(tmp_path):
    layout = Layout(str(tmp_path), "d", "1.0.0")
    Ledger(layout, "extractor").save({**ONE, "requests": 0, "tokens_in": 0})
    assert read_spent(layout) == {}


def test_foreign_files_are_left_out_and_a_damaged_account_is_named(tmp_path):
    layout = Layout(str(tmp_path), "d", "1.0.0")
    Ledger(layout, "extractor").save(ONE)
    folder = tmp_path / "d" / "1.0.0" / ".state" / "spent"
    (folder / ".DS_Store").write_bytes(b"\0")
    assert read_spent(layout) == {"extractor": ONE}
    [account] = folder.glob("extractor-*")
    account.write_text("{")
    with pytest.raises(StorageError, match=rf"^{account} is damaged .*; remove it$"):
        read_spent(layout)


def test_an_account_on_one_line():
    said = "2 requests, 30 tokens in, 4 out, 0.50 spent, 1 cached"
    assert describe_spent({**ONE, "cost": 0.5}) == said
