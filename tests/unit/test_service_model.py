"""The recommender learns, survives its files, and refuses files that do not fit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import train
from service.errors import ModelInvalidError
from service.model import ADAPTER_FILE, GOLDEN_FILE, WEIGHTS_FILE, Golden, parse, row

PLAN = train.TrainingPlan(user_rows=2_000, product_rows=500, embedding_size=32, interactions=120_000, learning_rate=0.2)
PRODUCTS = [f"prod{number}" for number in range(20)]


@pytest.fixture(scope="module")
def versions() -> tuple[train.Trained, train.Trained]:
    market = train.market(PLAN)
    first = train.first(PLAN, market.draw(PLAN.interactions, seed=1))
    return first, train.further(first, PLAN, market.draw(30_000, seed=2))


@pytest.fixture(scope="module")
def files(versions: tuple[train.Trained, train.Trained]) -> dict[str, bytes]:
    model = versions[0].model
    return model.files(model.golden("test_user_123", "home_page", PRODUCTS))


def test_training_ranks_held_out_products_above_chance(versions: tuple[train.Trained, train.Trained]) -> None:
    held_out = train.market(PLAN).draw(20_000, seed=3)
    untrained = train.first(dataclasses.replace(PLAN, learning_rate=0.0), train.market(PLAN).draw(20_000, seed=4))
    # 20,000 pairs put three standard errors of a coin at 0.011 around one half.
    assert abs(train.ranking_quality(untrained.model, held_out, seed=5) - 0.5) < 0.02
    assert train.ranking_quality(versions[0].model, held_out, seed=5) > 0.6


def test_training_is_reproducible_and_leaves_the_parent_alone(versions: tuple[train.Trained, train.Trained]) -> None:
    first, second = versions
    again = train.first(PLAN, train.market(PLAN).draw(PLAN.interactions, seed=1))
    assert np.array_equal(first.model.user_embedding, again.model.user_embedding)
    assert not np.array_equal(first.model.user_embedding, second.model.user_embedding)


def test_files_load_back_to_the_same_scores(
    versions: tuple[train.Trained, train.Trained], files: dict[str, bytes]
) -> None:
    model = versions[0].model
    loaded = parse(files)
    assert np.array_equal(loaded.scores("somebody", "search", PRODUCTS), model.scores("somebody", "search", PRODUCTS))


def test_recommendations_are_ranked_and_moved_by_live_taste(files: dict[str, bytes]) -> None:
    model = parse(files)
    ranked = model.recommend("user_1", "home_page", PRODUCTS)
    assert [each.score for each in ranked] == sorted((each.score for each in ranked), reverse=True)
    assert sorted(each.product_id for each in ranked) == sorted(PRODUCTS)
    last = ranked[-1].product_id
    towards = 100 * model.product_embedding[row(last, model.config.product_rows)]
    assert model.recommend("user_1", "home_page", PRODUCTS, towards)[0].product_id == last
    assert model.recommend("user_1", "home_page", PRODUCTS, np.ones(7, np.float32)) == ranked


@pytest.mark.parametrize("missing", ["config.json", WEIGHTS_FILE, GOLDEN_FILE])
def test_a_missing_file_is_named(files: dict[str, bytes], missing: str) -> None:
    with pytest.raises(ModelInvalidError, match=missing):
        parse({name: content for name, content in files.items() if name != missing})


def test_weights_of_another_model_are_refused_by_the_golden_request(
    versions: tuple[train.Trained, train.Trained], files: dict[str, bytes]
) -> None:
    other = versions[1].model
    mixed = {
        **files,
        WEIGHTS_FILE: other.files(Golden(user_id="u", context="cart", product_ids=[], scores=[]))[WEIGHTS_FILE],
    }
    with pytest.raises(ModelInvalidError, match="golden request differs"):
        parse(mixed)


def test_an_adapter_changes_the_products_and_nothing_but_two_files(
    versions: tuple[train.Trained, train.Trained], files: dict[str, bytes]
) -> None:
    first, _ = versions
    adapter = train.adapt(first, PLAN, train.market(PLAN).draw(30_000, seed=2), rank=4)
    adapted = train.with_adapter(files, first.model, adapter)
    assert {name for name in adapted if adapted[name] != files.get(name)} == {ADAPTER_FILE, GOLDEN_FILE}
    held_out = train.market(PLAN).draw(20_000, seed=3)
    before, after = (train.ranking_quality(parse(each), held_out, seed=5) for each in (files, adapted))
    assert before != after > 0.6
    # The golden request belongs to the adapted model: without its adapter, or with another, it is not served.
    for wrong in (files, {**adapted, ADAPTER_FILE: train.Adapter(-adapter.down, adapter.up).file()}):
        mixed = {**wrong, GOLDEN_FILE: adapted[GOLDEN_FILE]}
        with pytest.raises(ModelInvalidError, match="golden request differs"):
            parse(mixed)


@pytest.mark.parametrize("down", [(4, 31), (3, 32)])
def test_an_adapter_that_does_not_fit_is_refused(files: dict[str, bytes], down: tuple[int, int]) -> None:
    adapter = train.Adapter(np.ones(down, np.float32), np.ones((500, 4), np.float32))
    with pytest.raises(ModelInvalidError, match="lora"):
        parse({**files, ADAPTER_FILE: adapter.file()})


@pytest.mark.parametrize("cut", [0, 7, 100, 4000])
def test_torn_weights_are_refused(files: dict[str, bytes], cut: int) -> None:
    with pytest.raises(ModelInvalidError):
        parse({**files, WEIGHTS_FILE: files[WEIGHTS_FILE][:cut]})


@given(st.text(), st.integers(min_value=1, max_value=10**8))
def test_every_id_has_a_row(identifier: str, rows: int) -> None:
    assert 0 <= row(identifier, rows) < rows
