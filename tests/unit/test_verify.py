"""`verify` is composed of parts by name; a part that can't be looked at is skipped by name and is no divergence."""

from typing import cast

import pytest

from functions.stores.clients import Clients
from local.ground import user_data
from local.names import GroundKind
from operate.errors import LifeboatError
from operate.verify import command
from operate.verify.parity import PARITY_COLUMNS, SideParity, StoreParity, parity_rows
from operate.verify.parts import PARTS, USERS, Subject
from operate.verify.parts import run as run_parts

SIDE = SideParity(rows=1234, tombstones=2, digest="ab" * 32, lag_ms=1500, parked=None)


class _Stack:
    has_user_data = True


def subject(stack: _Stack, on_this_machine: bool) -> Subject:
    return Subject(cast(Clients, stack), lambda: 0, on_this_machine)


def test_a_machine_without_the_emulator_skips_user_data_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_data, "missing", lambda: "nothing stands for Spanner here")
    (found,) = run_parts([USERS], subject(_Stack(), True), lambda text: None)
    assert (found.equal, found.skipped) == (None, "nothing stands for Spanner here")
    assert command.equal([found])
    (row,) = parity_rows(found)
    assert len(row) == len(PARITY_COLUMNS) and "nothing stands for Spanner here" in row[-1]


def test_a_stack_without_user_data_says_so() -> None:
    stack = _Stack()
    stack.has_user_data = False
    (found,) = run_parts([USERS], subject(stack, False), lambda text: None)
    assert "lifeboat:userData" in found.skipped


def test_one_store_that_differs_is_the_exit_code() -> None:
    alike = StoreParity("features", True, {"aws": SIDE, "gcp": SIDE})
    apart = StoreParity("userdata/users", False, {"aws": SIDE, "gcp": SIDE}, differing=3, unsettled=["k"])
    assert command.equal([alike])
    assert not command.equal([alike, apart])
    written = command.document([alike, apart])
    assert written["equal"] is False
    assert written["stores"][1]["sides"]["gcp"]["rows"] == 1234
    lines = parity_rows(apart)
    assert [line[1] for line in lines] == ["aws", "gcp"]
    assert all("3 differ" in line[-1] and line[5] == "1,500 ms" and line[6] == "-" for line in lines)


def test_what_is_no_part_is_refused_with_what_there_is() -> None:
    with pytest.raises(LifeboatError, match="weights can't be verified; it may be features, models, users"):
        command.run(["weights"], "local", {}, GroundKind.LOCAL, repair=False, sample=None, as_json=False)
    assert list(PARTS) == ["features", "models", "users"]
