import json

import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.fields import PROOF_PROMPTS, PROOF_TESTS
from ilv_dataset.proof.tables import (
    ROWS,
    draw_bars,
    format_seeds,
    format_success,
    format_table,
    read_results,
    success_interval,
)


@pytest.fixture
def folder(tmp_path):
    """Text succeeds in 1 of 4, pictures in 3 of 4; two seeds, of which one is a success richer."""
    for test in PROOF_TESTS:
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


def test_each_scene_has_its_mean_over_the_seeds(folder):
    results = read_results(folder)
    assert results.scenes["text", "text", "pairs"] == (1, 0, 0, 0)
    assert results.scenes["interleaved", "own", "nouns"] == (1, 1, 1, 0.5)
    assert results.by_seed["interleaved", "own", "nouns"] == (0.75, 1.0)
    together = results.together("interleaved", "own", ("pairs", "nouns"))
    assert together == (1, 1, 1, 0, 1, 1, 1, 0.5)


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


def test_interval_is_of_as_many_trials_as_there_are_scenes():
    # sd / sqrt(N) is sqrt(0.25 / 199) = 0.03544 of 200 scenes, however many policies saw them.
    assert success_interval([0.0, 1.0] * 100) == pytest.approx((0.43053, 0.56947), abs=1e-5)
    # Mean 3/4, sd 1/2, of 4 scenes: 0.75 +- 0.49, but never above 1.
    assert success_interval([1.0, 1.0, 1.0, 0.0]) == pytest.approx((0.26, 1.0))


def test_scenes_that_are_all_equal_have_an_interval():
    assert format_success([0.0] * 10) == "0.0 (0.0-27.8)"
    assert success_interval([1 / 3] * 3) == pytest.approx((0.0615, 0.7923), abs=1e-4)


def test_every_way_of_telling_has_a_row():
    assert {prompt for _, prompt in ROWS} == set(PROOF_PROMPTS)


def test_bars_are_drawn(folder):
    picture = draw_bars(read_results(folder))
    assert picture.size == (900, 400)
    assert len(picture.getcolors(1 << 20)) > 4


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no rollouts"):
        read_results(tmp_path)
