"""The recommender: a factorisation model over hashed user and product ids, as files any safetensors loader reads.

A score is the inner product of a user's and a product's embedding plus the product's and the context's bias. Users' live
features move the user's embedding, so that the freshest behaviour counts without a training run. Ids are hashed into rows
(Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009): the model needs no vocabulary, and an id it
never saw gets an answer. This module refuses model files whose tensors do not fit its config: a wrong model is worse than none.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from service.errors import ModelInvalidError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
PREPROCESSING_FILE = "preprocessor_config.json"
GOLDEN_FILE = "golden.json"
# May be there or not: low-rank weights that are added to the products' when a model is loaded.
ADAPTER_FILE = "adapter_model.safetensors"
FILES = (CONFIG_FILE, WEIGHTS_FILE, PREPROCESSING_FILE, GOLDEN_FILE)

_LORA_DOWN = "product_embedding.lora_A.weight"
_LORA_UP = "product_embedding.lora_B.weight"

# Same arithmetic on the other site's processor may round differently in the last bits.
GOLDEN_TOLERANCE = 1e-4

Matrix = NDArray[np.float32]


class ModelConfig(BaseModel):
    """`config.json`: sizes of the tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    architectures: list[str] = ["HashedFactorisationRecommender"]
    model_type: str = "lifeboat-recommender"
    torch_dtype: str = "float32"
    user_rows: int = Field(gt=0, le=100_000_000)
    product_rows: int = Field(gt=0, le=100_000_000)
    embedding_size: int = Field(gt=0, le=4096)


class Preprocessing(BaseModel):
    """`preprocessor_config.json`: how ids and contexts become rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id_hash: str = "crc32"
    contexts: list[str] = ["home_page", "product_page", "search", "cart"]


class Golden(BaseModel):
    """`golden.json`: a request and the scores that a rightly loaded model gives to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    user_id: str
    context: str
    product_ids: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Recommendation:
    """A product and its score; larger is better."""

    product_id: str
    score: float


@dataclass(frozen=True)
class Adapter:
    """A low-rank change of product embeddings, `up @ down` (Hu et al., "LoRA", 2021): float32 (rows, rank), (rank, size)."""

    down: Matrix
    up: Matrix

    def file(self) -> bytes:
        """Return the adapter's file: names as the PEFT library gives them."""
        return save_tensors({_LORA_DOWN: np.ascontiguousarray(self.down), _LORA_UP: np.ascontiguousarray(self.up)})


@dataclass(frozen=True)
class Recommender:
    """Weights in memory: embeddings float32 (rows, size), biases float32 (rows,)."""

    config: ModelConfig
    preprocessing: Preprocessing
    user_embedding: Matrix
    product_embedding: Matrix
    product_bias: Matrix
    context_bias: Matrix

    def recommend(
        self, user_id: str, context: str, product_ids: Sequence[str], recent: Matrix | None = None
    ) -> list[Recommendation]:
        """Rank products for a user, best first.

        `recent` is the user's live taste, float32 of the embedding's size, added to the trained embedding; None or a
        vector of another size (features of another model version) leaves the trained one as it is.
        """
        scores = self.scores(user_id, context, product_ids, recent)
        order = np.argsort(-scores, kind="stable")
        return [Recommendation(product_ids[index], float(scores[index])) for index in order]

    def scores(
        self, user_id: str, context: str, product_ids: Sequence[str], recent: Matrix | None = None
    ) -> NDArray[np.float32]:
        """Score products in the order given, float32 (products,)."""
        user = self.user_embedding[row(user_id, self.config.user_rows)]
        if recent is not None and recent.shape == user.shape:
            user = user + recent
        rows = np.fromiter((row(item, self.config.product_rows) for item in product_ids), np.int64, len(product_ids))
        contexts = self.preprocessing.contexts
        context_bias = (
            self.context_bias[contexts.index(context), rows % self.context_bias.shape[1]]
            if (context in contexts)
            else np.float32(0)
        )
        result: NDArray[np.float32] = self.product_embedding[rows] @ user + self.product_bias[rows] + context_bias
        return result

    def files(self, golden: Golden) -> dict[str, bytes]:
        """Return the model's folder as file name to bytes, in Hugging Face's layout."""
        tensors = {
            "user_embedding.weight": self.user_embedding,
            "product_embedding.weight": self.product_embedding,
            "product_bias.weight": self.product_bias,
            "context_bias.weight": self.context_bias,
        }
        return {
            CONFIG_FILE: _json(self.config),
            WEIGHTS_FILE: save_tensors({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}),
            PREPROCESSING_FILE: _json(self.preprocessing),
            GOLDEN_FILE: _json(golden),
        }

    def adapted(self, adapter: Adapter) -> "Recommender":
        """Return this model with an adapter's change in it."""
        return replace(self, product_embedding=self.product_embedding + adapter.up @ adapter.down)

    def golden(self, user_id: str, context: str, product_ids: Sequence[str]) -> Golden:
        """Make the golden request of this model: what a host must reproduce before it joins the fleet."""
        scores = [float(score) for score in self.scores(user_id, context, product_ids)]
        return Golden(user_id=user_id, context=context, product_ids=list(product_ids), scores=scores)


def row(identifier: str, rows: int) -> int:
    """Return the table row of an id: CRC-32 of its UTF-8 bytes, modulo the table's size."""
    return zlib.crc32(identifier.encode()) % rows


def parse(files: Mapping[str, bytes]) -> Recommender:
    """Load a recommender from its files and prove it with its golden request.

    Raises ModelInvalidError when a file is missing, a tensor does not fit the config, or the golden scores differ.
    """
    missing = sorted(set(FILES) - set(files))
    if missing:
        raise ModelInvalidError(f"model lacks {', '.join(missing)}: publish the whole folder that service.train wrote")
    try:
        config = ModelConfig.model_validate_json(files[CONFIG_FILE])
        preprocessing = Preprocessing.model_validate_json(files[PREPROCESSING_FILE])
        golden = Golden.model_validate_json(files[GOLDEN_FILE])
        tensors = load_tensors(files[WEIGHTS_FILE])
        low_rank = load_tensors(files[ADAPTER_FILE]) if ADAPTER_FILE in files else {}
    except (ValidationError, SafetensorError) as error:
        raise ModelInvalidError(f"model files do not parse: {error}") from error
    recommender = Recommender(
        config,
        preprocessing,
        _tensor(tensors, "user_embedding.weight", (config.user_rows, config.embedding_size)),
        _tensor(tensors, "product_embedding.weight", (config.product_rows, config.embedding_size)),
        _tensor(tensors, "product_bias.weight", (config.product_rows,)),
        _tensor(tensors, "context_bias.weight", (len(preprocessing.contexts), CONTEXT_BUCKETS)),
    )
    if low_rank:
        rank = len(low_rank.get(_LORA_DOWN, ()))
        down = _tensor(low_rank, _LORA_DOWN, (rank, config.embedding_size))
        recommender = recommender.adapted(Adapter(down, _tensor(low_rank, _LORA_UP, (config.product_rows, rank))))
    scores = recommender.scores(golden.user_id, golden.context, golden.product_ids)
    if not np.allclose(scores, golden.scores, atol=GOLDEN_TOLERANCE):
        worst = float(np.max(np.abs(scores - np.asarray(golden.scores))))
        raise ModelInvalidError(f"golden request differs by {worst:.2g} (limit {GOLDEN_TOLERANCE:g}): not served")
    return recommender


# A context shifts products by bucket, not each by itself: contexts are few and their data is thin.
CONTEXT_BUCKETS = 64


def _tensor(tensors: Mapping[str, Matrix], name: str, shape: tuple[int, ...]) -> Matrix:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype != np.float32:
        found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        raise ModelInvalidError(f"tensor {name} is {found}, config says float32 {shape}")
    return tensor


def _json(value: BaseModel) -> bytes:
    return (json.dumps(value.model_dump(), indent=2, sort_keys=True) + "\n").encode()


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a model's files into a folder, making it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
