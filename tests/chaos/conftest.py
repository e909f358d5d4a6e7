"""Leaves the long form of a chaos test out unless it is asked for by its marker."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "chaos_full" in (config.option.markexpr or ""):
        return
    long = [item for item in items if item.get_closest_marker("chaos_full")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
