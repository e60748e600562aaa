"""Goal: the package says exactly what is public. Method: compare __all__ with what is there."""

from types import ModuleType

import urn


def test_all_public_names_are_exported_and_nothing_else() -> None:
    public = {
        name
        for name, value in vars(urn).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }

    assert public == set(urn.__all__)
    assert len(urn.__all__) == len(set(urn.__all__))
