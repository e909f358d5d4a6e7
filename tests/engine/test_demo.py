"""The demo as a user runs it: it ends well, its figures are the contract's, and it leaves no process behind."""

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from local.ground import user_data

ROOT = Path(__file__).resolve().parents[2]
# The demo takes under two minutes on two quiet cores; a busy machine may need several times that.
LIMIT_SECONDS = 900


@pytest.mark.timeout(LIMIT_SECONDS + 30)
def test_the_demo_fails_over_and_reports(tmp_path: Path) -> None:
    environment = {**os.environ, "LIFEBOAT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [ROOT / "lifeboat", "demo", "--report", tmp_path / "report", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    demo = json.loads((tmp_path / "report" / "demo.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == demo
    assert demo["passed"]
    assert all(demo["checks"].values())
    assert demo["engine"]["second_up_changes"] == 0
    artifacts = demo["artifacts"]
    assert [(each["kind"], each["origin"]) for each in artifacts] == [
        ("full", "aws"),
        ("fine-tune", "aws"),
        ("adapter", "aws"),
        ("fine-tune", "gcp"),
    ]
    assert all(each["verified"] and each["copies"] == dict.fromkeys(("aws", "gcp", "r2"), True) for each in artifacts)
    assert [each["parent"] for each in artifacts] == [None, *[each["version"] for each in artifacts[:-1]]]
    # An adapter crosses without the weights that it belongs to.
    assert artifacts[2]["ratio"] < 0.02
    assert demo["features"]["divergent"] == 0
    assert demo["features"]["rows_compared"] > 0
    assert demo["sessions"]["went_on"] == demo["sessions"]["open_at_loss"] > 0
    assert demo["sessions"]["refused"] == 0
    assert demo["bridge"]["received"] == demo["bridge"]["sent"] > 0
    assert all(each["equal"] is not False for each in demo["parity"])
    stores = {"features", "sessions", "bridge"}
    if not user_data.missing():
        stores.add("userdata")
        assert demo["userdata"]["written"] > 0
        assert demo["userdata"]["divergent"] == 0
    else:
        assert any(each["skipped"] for each in demo["parity"])
    assert set(demo["failover"]["rpo"]) == stores
    assert demo["failover"]["lost_writes"] == 0
    failed = demo["failover"]["requests"]
    assert sum(each["count"] for each in failed["explained"]) == failed["failed"]
    # A request can only fail by being under way when its site is killed: 20 a second are sent, each for milliseconds.
    assert failed["failed"] <= 10
    assert {each["site"] for each in demo["service"]} == {"aws", "gcp"}
    assert "<svg" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    left = [
        process.info
        for process in psutil.process_iter(["pid", "cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []
