"""The bench of artifacts on small files: the keys that other tools read, and that a file which is none is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from functions.artifacts.digest import digest
from operate.bench.artifacts import BenchFileError, bench
from operate.bench.large_objects import ROW_BYTES, LargeModel
from operate.output import write_json

pytestmark = pytest.mark.unit


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    numbers = np.random.default_rng(2).standard_normal((400, 128), np.float32)
    for name, change in (("parent", 1.0), ("child", 1.0003)):
        save_file({"a": numbers * np.float32(change), "same": numbers[:50].copy()}, tmp_path / f"{name}.safetensors")
    return tmp_path / "parent.safetensors", tmp_path / "child.safetensors"


def test_the_keys_that_are_promised(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_json(bench(*pair, runs=1))
    found = json.loads(capsys.readouterr().out)
    wanted = {"bytes_raw", "bytes_wire", "ratio", "encode_mb_s", "decode_mb_s", "zstd3", "xor", "identical"}
    assert wanted <= set(found)
    assert {"ratio", "mb_s"} <= set(found["zstd3"]) and "ratio" in found["xor"]
    assert found["identical"] is True
    assert 0 < found["ratio"] == round(found["bytes_wire"] / found["bytes_raw"], 5) < found["zstd3"]["ratio"]
    # What did not change costs nothing.
    assert found["codecs"]["reference"] == 50 * 128 * 4


def test_without_a_parent_and_with_no_model_at_all(pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = bench(None, pair[1], runs=1)
    assert found.identical and found.xor.ratio == 1.0
    with pytest.raises(BenchFileError, match="cannot be read"):
        bench(None, tmp_path / "none.safetensors", runs=1)


def test_a_model_that_is_made_where_it_is_read_is_the_same_whatever_is_asked_for() -> None:
    model = LargeModel(4_096 * ROW_BYTES * 4)
    path = model.paths()[1]
    size = model.size(path)
    whole = model.read("child", path, 0, size)
    assert len(whole) == size
    for offset, length in ((0, 9), (5, 1_000_003), (size - 7, 7), (model.spans(path)[1].start - 3, 6)):
        assert model.read("child", path, offset, length) == whole[offset : offset + length]
    of_parent = digest([model.read("parent", path, 0, size)], model.spans(path))
    tensors = [*of_parent.tensors, *digest([whole], model.spans(path)).tensors]
    assert len(set(tensors)) == len(tensors) == 4
