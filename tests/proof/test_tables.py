import json

import pytest

from ilv_dataset.crop_scores import Share
from ilv_dataset.errors import ConfigError
from ilv_dataset.proof.tables import (
    draw_bars,
    format_seeds,
    format_share,
    format_table,
    read_results,
)

TESTS = ("known", "pairs", "nouns", "surroundings")


@pytest.fixture
def folder(tmp_path):
    """Text succeeds in 1 of 4, pictures in 3 of 4; two seeds, of which one is a success richer."""
    for test in TESTS:
        for instruction, prompt, found in (
            ("text", "text", [1, 0, 0, 0]),
            ("interleaved", "own", [1, 1, 1, 0]),
        ):
            for seed in (0, 1):
                successes = [bool(one) for one in found]
                if seed == 1 and test == "nouns" and prompt == "own":
                    successes = [True] * 4
                path = tmp_path / f"{instruction}-{seed}-{test}-{prompt}.json"
                path.write_text(json.dumps({"successes": successes, "chance": 0.125}))
    return tmp_path


def test_results_are_added_up_over_seeds(folder):
    results = read_results(folder)
    assert results.shares["text", "text", "pairs"] == Share(2, 8)
    assert results.shares["interleaved", "own", "nouns"] == Share(7, 8)
    assert results.by_seed["interleaved", "own", "nouns"] == (0.75, 1.0)
    assert results.together("interleaved", "own", ("pairs", "nouns")) == Share(13, 16)


def test_table_has_a_row_a_prompt_and_one_of_chance(folder):
    lines = format_table(read_results(folder)).splitlines()
    assert len(lines) == 5
    cells = [cell.strip() for cell in lines[3].split("|")]
    assert cells[1] == "interleaved, the scene's own crops"
    assert cells[4].startswith("87.5 (")
    assert cells[6].startswith("81.2 (")
    assert lines[4].count("12.5") == 5


def test_seeds_stand_side_by_side(folder):
    last = format_seeds(read_results(folder)).splitlines()[-1]
    assert [cell.strip() for cell in last.split("|")][4] == "75.0, 100.0"


def test_share_of_none_right_has_an_interval():
    assert format_share(Share(0, 10)) == "0.0 (0.0-27.8)"


def test_bars_are_drawn(folder):
    picture = draw_bars(read_results(folder))
    assert picture.size == (900, 400)
    assert len(picture.getcolors(1 << 20)) > 4


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no rollouts"):
        read_results(tmp_path)
