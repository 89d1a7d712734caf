"""All nouns of the simulation by name; to widen it add rows to the modules it reads them from."""

from __future__ import annotations

from collections.abc import Mapping

from ilv_dataset.simulation.foods import FOODS
from ilv_dataset.simulation.groceries import GROCERIES
from ilv_dataset.simulation.household import HOUSEHOLD
from ilv_dataset.simulation.kitchenware import CONTAINERS, TABLEWARE
from ilv_dataset.simulation.nouns import Noun
from ilv_dataset.simulation.tools import TOOLS
from ilv_dataset.simulation.toys import TOYS

NOUNS: Mapping[str, Noun] = {
    noun.name: noun
    for noun in (*TABLEWARE, *TOOLS, *HOUSEHOLD, *FOODS, *GROCERIES, *TOYS, *CONTAINERS)
}

# Nouns that people mix up or use for each other: never two of a group on one table.
ALIKE = (frozenset({"block", "brick"}), frozenset({"tray", "box"}), frozenset({"mug", "cup"}))
# Nouns that are not counted: nobody says "a bread".
MASS_NOUNS = ("bread", "broccoli", "cheese", "corn")
# Nouns that may stand on the table twice in one colour, told apart by size.
TWIN_NOUNS = ("block", "ball", "bowl", "plate", "box")
