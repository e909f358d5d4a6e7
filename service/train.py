"""Trains the recommender: logistic matrix factorisation with sampled negatives, in NumPy, seeded.

Method: Johnson, "Logistic Matrix Factorization for Implicit Feedback Data" (2014), with negatives drawn by popularity as
in Mikolov et al. (2013) and per-row AdaGrad steps (Duchi et al., 2011). `further` goes on from a trained model with newer
interactions: that is version 2, whose weights differ from its parent's by little, as a fine-tune's do.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.interactions import Interactions, Market
from service.model import (
    ADAPTER_FILE,
    CONTEXT_BUCKETS,
    GOLDEN_FILE,
    Adapter,
    Matrix,
    ModelConfig,
    Preprocessing,
    Recommender,
    write,
)

BATCH = 16_384
INITIAL_SCALE = 0.02
ADAGRAD_EPSILON = 1e-6
# Newer interactions that version 2 is trained further on: one in so many of the first training's.
NEWER_SHARE = 10
# Products of the golden request: enough that a wrong table cannot give all their scores by chance.
GOLDEN_PRODUCTS = 50


@dataclass(frozen=True)
class TrainingPlan:
    """Sizes of a training run; the defaults make a model of 31 MB in seconds on two cores."""

    user_rows: int = 40_000
    product_rows: int = 20_000
    embedding_size: int = 128
    interactions: int = 600_000
    learning_rate: float = 0.08
    seed: int = 20_261_124


@dataclass(frozen=True)
class Trained:
    """A model with the optimiser's state that a further run starts from, and the loss it ended with."""

    model: Recommender
    loss: float
    squared_gradients: dict[str, NDArray[np.float32]] = field(repr=False)


def market(plan: TrainingPlan) -> Market:
    """Return the market that the plan's interactions come from."""
    return Market.make(plan.user_rows, plan.product_rows, plan.seed)


def first(plan: TrainingPlan, data: Interactions) -> Trained:
    """Train version 1 from random weights."""
    random = np.random.default_rng(plan.seed)
    preprocessing = Preprocessing()

    def table(rows: int) -> Matrix:
        return random.standard_normal((rows, plan.embedding_size), dtype=np.float32) * np.float32(INITIAL_SCALE)

    model = Recommender(
        ModelConfig(user_rows=plan.user_rows, product_rows=plan.product_rows, embedding_size=plan.embedding_size),
        preprocessing,
        table(plan.user_rows),
        table(plan.product_rows),
        np.zeros(plan.product_rows, np.float32),
        np.zeros((len(preprocessing.contexts), CONTEXT_BUCKETS), np.float32),
    )
    state = {
        "user": np.zeros(plan.user_rows, np.float32),
        "product": np.zeros(plan.product_rows, np.float32),
        "bias": np.zeros(plan.product_rows, np.float32),
    }
    return _train(Trained(model, float("inf"), state), data, plan, plan.seed + 1)


def further(parent: Trained, plan: TrainingPlan, data: Interactions) -> Trained:
    """Train a parent further on newer interactions; the parent is left as it is."""
    return _train(parent, data, plan, plan.seed + 2)


def adapt(parent: Trained, plan: TrainingPlan, data: Interactions, rank: int) -> Adapter:
    """Train an adapter of a parent: the best approximation of its rank to what further training does to the products.

    By Eckart and Young (1936) that is the difference projected on its leading right singular vectors.
    """
    difference = further(parent, plan, data).model.product_embedding - parent.model.product_embedding
    _, vectors = np.linalg.eigh(difference.T @ difference)
    down = np.ascontiguousarray(vectors[:, -rank:].T)
    return Adapter(down, difference @ down.T)


def _train(start: Trained, data: Interactions, plan: TrainingPlan, seed: int) -> Trained:
    random = np.random.default_rng(seed)
    user, product = start.model.user_embedding.copy(), start.model.product_embedding.copy()
    bias = start.model.product_bias.copy()
    state = {name: values.copy() for name, values in start.squared_gradients.items()}
    losses: list[float] = []
    for begin in range(0, len(data), BATCH):
        users = data.users[begin : begin + BATCH]
        positives = data.products[begin : begin + BATCH]
        # Shuffling the batch's own products draws negatives by popularity at no cost.
        for products, target in ((positives, 1.0), (random.permutation(positives), 0.0)):
            u, p = user[users], product[products]
            probability = 1.0 / (1.0 + np.exp(-(np.einsum("nd,nd->n", u, p) + bias[products])))
            error = (probability - target).astype(np.float32)
            picked = probability if target else 1.0 - probability
            losses.append(float(-np.log(np.maximum(picked, 1e-9)).mean()))
            _step(user, state["user"], users, error[:, None] * p, plan.learning_rate)
            _step(product, state["product"], products, error[:, None] * u, plan.learning_rate)
            _step(bias[:, None], state["bias"], products, error[:, None], plan.learning_rate)
    model = replace(start.model, user_embedding=user, product_embedding=product, product_bias=bias)
    tail = losses[-min(len(losses), 10) :]
    return Trained(model, float(np.mean(tail)), state)


def _step(
    table: Matrix, squared: NDArray[np.float32], rows: NDArray[np.int32], gradient: Matrix, learning_rate: float
) -> None:
    """Take one AdaGrad step on the rows of a batch, in place; a row's gradients are summed before its step."""
    order = np.argsort(rows, kind="stable")
    unique, begins = np.unique(rows[order], return_index=True)
    summed = np.add.reduceat(gradient[order], begins, axis=0)
    squared[unique] += np.einsum("nd,nd->n", summed, summed) / summed.shape[1]
    scale = learning_rate / np.sqrt(squared[unique] + ADAGRAD_EPSILON)
    table[unique] -= scale[:, None] * summed


def with_golden(model: Recommender) -> dict[str, bytes]:
    """Return a model's files with its golden request."""
    products = [f"prod{number}" for number in range(GOLDEN_PRODUCTS)]
    return model.files(model.golden("test_user_123", "home_page", products))


def with_adapter(parent: Mapping[str, bytes], model: Recommender, adapter: Adapter) -> dict[str, bytes]:
    """Return the parent's files as they are with an adapter and the golden request of the adapted model beside them."""
    adapted = model.adapted(adapter)
    return {**parent, ADAPTER_FILE: adapter.file(), GOLDEN_FILE: with_golden(adapted)[GOLDEN_FILE]}


def ranking_quality(model: Recommender, data: Interactions, seed: int) -> float:
    """Return how often a taken product outranks a random one by popularity (the AUC; 0.5 is chance)."""
    random = np.random.default_rng(seed)
    others = random.permutation(data.products)
    users = model.user_embedding[data.users]
    taken = np.einsum("nd,nd->n", users, model.product_embedding[data.products]) + model.product_bias[data.products]
    other = np.einsum("nd,nd->n", users, model.product_embedding[others]) + model.product_bias[others]
    return float(np.mean(taken > other) + 0.5 * np.mean(taken == other))


def main() -> None:
    """Train both demo versions into the folder that the command line names, as `v1` and `v2`."""
    parser = argparse.ArgumentParser(description="Train the reference recommender: v1, and v2 trained further.")
    parser.add_argument("folder", type=Path, help="where v1/ and v2/ are written")
    folder = parser.parse_args().folder
    plan = TrainingPlan()
    data = market(plan)
    one = first(plan, data.draw(plan.interactions, seed=plan.seed + 10))
    two = further(one, plan, data.draw(plan.interactions // NEWER_SHARE, seed=plan.seed + 20))
    for name, trained in (("v1", one), ("v2", two)):
        write(with_golden(trained.model), folder / name)
        sys.stdout.write(f"{folder / name}: loss {trained.loss:.4f}\n")


if __name__ == "__main__":
    main()
