import numpy as np
import pytest

from ilv_dataset.phrases import head_noun
from ilv_dataset.simulation.meshes import merge_meshes
from ilv_dataset.simulation.nouns import COLOURS, STEEL, Noun, spin
from ilv_dataset.simulation.vocabulary import ALIKE, MASS_NOUNS, NOUNS, TWIN_NOUNS

EVERY_NOUN = pytest.mark.parametrize("noun", NOUNS.values(), ids=NOUNS)


def test_vocabulary_is_broad():
    assert len(NOUNS) >= 40
    assert len(COLOURS) == 12


@EVERY_NOUN
def test_noun_is_as_large_as_it_says(noun: Noun):
    mesh = merge_meshes([part.shape() for part in noun.parts])
    across = np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1])
    assert noun.radius_m - 0.02 <= across.max() <= noun.radius_m + 0.001
    assert mesh.vertices[:, 2].min() == pytest.approx(0.0, abs=0.004)
    assert noun.height_m - 0.004 <= mesh.vertices[:, 2].max() <= noun.height_m + 0.001


@EVERY_NOUN
def test_noun_can_be_held(noun: Noun):
    assert (
        noun.grasp.width_m <= 0.075 or not noun.is_mover
    )  # 80 mm between open fingers, objects up to 6 % larger
    assert 0.0 < noun.grasp.xyz_m[2] <= noun.height_m + 0.003
    # The palm, 45 mm above the finger tips, does not touch its top.
    assert noun.height_m - noun.grasp.xyz_m[2] <= 0.045


@EVERY_NOUN
def test_noun_is_understood_as_itself(noun: Noun):
    assert head_noun(f"the {noun.colours[0]} {noun.name}") == noun.name


@EVERY_NOUN
def test_colours_are_known(noun: Noun):
    assert set(noun.colours) <= set(COLOURS)


@EVERY_NOUN
def test_steel_is_not_taken_for_grey(noun: Noun):
    painted = {part.rgb for part in noun.parts}
    is_can = noun.name == "can"  # only its top is of steel
    assert STEEL not in painted or is_can or "grey" not in noun.colours


def test_colours_are_far_apart():
    values = np.array(list(COLOURS.values()))
    apart = np.linalg.norm(values[:, None] - values[None], axis=-1) + 9 * np.eye(len(values))
    assert apart.min() > 0.3


def test_groups_name_known_nouns():
    assert set(TWIN_NOUNS) <= set(NOUNS)
    assert set(MASS_NOUNS) <= set(NOUNS)
    assert frozenset().union(*ALIKE) <= set(NOUNS)


def test_spin_reads_millimetres():
    mesh = spin(0, 0, 50, 0, 50, 100)()
    assert mesh.vertices.max(0).round(6).tolist() == [0.05, 0.05, 0.1]
