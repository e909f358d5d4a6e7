"""Pairs of a parent and a child for the bench: the recommender's two versions, and a real text encoder (encoder.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from operate.bench.encoder import FULL, ONE_LAYER, PARENT, STEPS, file_name, fine_tuned
from service import model, train

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Pair:
    """Two safetensors files; no parent: the child is measured as a first version."""

    name: str
    parent: Path | None
    child: Path


def recommender(folder: Path, tell: Tell, plan: train.TrainingPlan | None = None) -> Pair:
    """Train the reference service's model and, from it, its second version, as the demo does."""
    chosen = plan or train.TrainingPlan()
    market = train.market(chosen)
    tell("training the recommender, version 1")
    first = train.first(chosen, market.draw(chosen.interactions, seed=chosen.seed + 10))
    tell("training version 2 from it")
    newer = market.draw(chosen.interactions // train.NEWER_SHARE, seed=chosen.seed + 20)
    second = train.further(first, chosen, newer)
    for name, trained in (("v1", first), ("v2", second)):
        model.write(train.with_golden(trained.model), folder / name)
    files = [folder / name / model.WEIGHTS_FILE for name in ("v1", "v2")]
    return Pair("recommender v1 -> v2", *files)


def encoder(tell: Tell) -> list[Pair]:
    """Return what is measured of an encoder that is fine-tuned whole and its last layer alone; training takes minutes.

    Raises BenchExtraMissingError where its packages are not installed.
    """
    folder, last = fine_tuned(tell), STEPS[-1]

    def file(name: str, step: int, dtype: str = "bf16") -> Path:
        return folder / file_name(name, step, dtype)

    parent = file(PARENT, 0)
    return [
        *(Pair(f"bf16, {count} steps", parent, file(FULL, count)) for count in STEPS),
        Pair(f"bf16, one layer, {last} steps", parent, file(ONE_LAYER, last)),
        Pair(f"fp32, {last} steps", file(PARENT, 0, "fp32"), file(FULL, last, "fp32")),
        Pair("bf16, no parent", None, file(FULL, last)),
    ]
