from ilv_dataset.proof.splits import (
    SEEN_COLOURS,
    SEEN_NOUNS,
    SEEN_TABLES,
    UNSEEN_COLOURS,
    UNSEEN_NOUNS,
    UNSEEN_TABLES,
    split_colours,
)
from ilv_dataset.simulation.vocabulary import NOUNS


def test_unseen_nouns_are_the_first_ten_by_digest_and_hold_movers_and_targets():
    # sha256("pan") begins with the lowest bytes of all fifty, sha256("broccoli") comes next.
    assert UNSEEN_NOUNS == (
        "pan", "broccoli", "airplane", "kettle", "box", "car", "duck", "screwdriver", "donut",
        "egg",
    )  # fmt: skip
    assert len(SEEN_NOUNS) == 40
    assert not set(SEEN_NOUNS) & set(UNSEEN_NOUNS)


def test_colours_are_seen_or_unseen_and_none_is_lost():
    for noun in SEEN_NOUNS:
        assert not set(SEEN_COLOURS[noun]) & set(UNSEEN_COLOURS[noun])
        assert {*SEEN_COLOURS[noun], *UNSEEN_COLOURS[noun]} == set(NOUNS[noun].colours)
        assert SEEN_COLOURS[noun]


def test_a_quarter_of_the_colours_is_kept_and_a_single_colour_is_not():
    assert len(split_colours("mug")[1]) == 3  # of 12
    assert split_colours("carrot") == (("orange",), ())


def test_tables_are_seen_or_unseen():
    assert not set(SEEN_TABLES) & set(UNSEEN_TABLES)
    assert len(SEEN_TABLES) == 4
