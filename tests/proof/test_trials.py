import numpy as np
import pytest

from ilv_dataset.proof.splits import (
    SEEN_COLOURS,
    SEEN_TABLES,
    UNSEEN_COLOURS,
    UNSEEN_NOUNS,
    UNSEEN_TABLES,
)
from ilv_dataset.proof.trials import draw_trial, move_trial


def draw(kind, count=15):
    return [draw_trial(kind, np.random.default_rng([3, number])) for number in range(count)]


def named(trial):
    return [trial.scene.things[row] for row in (trial.task.mover, trial.task.target)]


def test_training_shows_seen_objects_on_seen_tables_only():
    for trial in draw("train"):
        assert all(one.colour in SEEN_COLOURS[one.noun] for one in trial.scene.things)
        assert trial.scene.look.table_kind in SEEN_TABLES


def test_pairs_name_known_nouns_in_colours_of_no_training():
    for trial in draw("pairs"):
        assert all(one.colour in UNSEEN_COLOURS[one.noun] for one in named(trial))


def test_nouns_name_what_no_training_showed():
    for trial in draw("nouns"):
        assert all(one.noun in UNSEEN_NOUNS for one in named(trial))


def test_surroundings_are_new_around_known_objects():
    for trial in draw("surroundings"):
        assert all(one.colour in SEEN_COLOURS[one.noun] for one in named(trial))
        assert trial.scene.look.table_kind in UNSEEN_TABLES


def test_all_that_stands_around_is_unseen_in_new_surroundings():
    trials = draw("surroundings", 60)
    trials += [
        move_trial("surroundings", trial, np.random.default_rng([4, number]))
        for number, trial in enumerate(trials[:20])
    ]
    for trial in trials:
        assert (trial.task.mover, trial.task.target) == (0, 1)
        assert {one.noun for one in trial.scene.things[2:]} <= set(UNSEEN_NOUNS)
        assert len(trial.scene.things) in (5, 6)


def test_text_names_the_noun_and_a_colour_only_where_a_twin_stands():
    words = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white"}
    words |= {"black", "grey", "turquoise"}
    for trial in draw("train", 40):
        said = trial.text.split()
        nouns = [one.noun for one in trial.scene.things]
        assert said[:2] == ["put", "the"]
        assert (len(nouns) > len(set(nouns))) == bool(words & set(said))


def test_chance_is_one_of_the_movers_times_one_of_two_targets():
    for trial in draw("known"):
        movers = [one for one in trial.scene.things if one.kind.seat is None]
        assert trial.chance == pytest.approx(0.5 / len(movers))


def test_a_moved_trial_shows_the_same_two_objects_elsewhere_and_says_their_colours():
    trial = draw_trial("pairs", np.random.default_rng(1))
    moved = move_trial("pairs", trial, np.random.default_rng(2))
    assert named(moved) == named(trial)
    assert moved.scene.poses[0].tolist() != trial.scene.poses[0].tolist()
    assert all(one.name in moved.text for one in named(trial))


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        draw_trial("unknown", np.random.default_rng(0))
