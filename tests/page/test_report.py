"""The report page as a reader sees it: complete, self-contained, no script error, readable on a phone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from operate.report import write
from operate.report.result import (
    Artifact,
    Bridge,
    CodecShare,
    Demo,
    Engine,
    Failover,
    FailureReason,
    Features,
    Ground,
    Host,
    LagSample,
    Mark,
    Parity,
    Quantiles,
    Requests,
    RequestSecond,
    ServiceFigures,
    Sessions,
    SideParity,
    Step,
    Timeline,
    UserData,
)
from operate.test import BROWSER

FLIP = Failover(
    trigger="pulumi up with lifeboat:active=gcp",
    rto_seconds=12.5,
    steps=[Step(name="program", seconds=4.0), Step(name="gate <green>", seconds=1.5)],
    requests=Requests(sent=900, failed=2, rescued=31, explained=[FailureReason(reason="reset mid-answer", count=2)]),
    rpo={"features": 0.12, "sessions": 0.04, "userdata": 0.31, "bridge": 0.0},
    unreplicated_writes=3,
    lost_writes=0,
)


LAGS = {"lag_ms": Quantiles(p50=80, p99=400), "lag_back_ms": Quantiles(p50=120, p99=700)}
SIDE = SideParity(rows=1234, tombstones=5, digest="0123456789ab" * 5 + "abcd", lag_ms=12, parked=0)


def demo(passed: bool = True, user_data: bool = True) -> Demo:
    return Demo(
        engine=Engine(
            version="v3.259.0",
            resources=101,
            up_seconds=20,
            second_up_changes=0,
            second_up_seconds=6,
            flip_seconds=12.5,
        ),
        artifacts=[
            Artifact(
                model="recommender",
                version="ab" * 32,
                parent=None,
                kind="full",
                origin="aws",
                bytes_raw=31_000_000,
                bytes_wire=28_000_000,
                ratio=0.9,
                seconds=2.5,
                verified=True,
            ),
            Artifact(
                model="recommender",
                version="cd" * 32,
                parent="ab" * 32,
                kind="adapter",
                origin="gcp",
                bytes_raw=31_000_000,
                bytes_wire=150_000,
                ratio=0.005,
                seconds=2.2,
                verified=True,
                copies={"aws": True, "gcp": True, "r2": True},
                codecs=[
                    CodecShare(codec="reference", bytes_raw=30_800_000, bytes_wire=0),
                    CodecShare(codec="float delta", bytes_raw=200_000, bytes_wire=150_000),
                ],
            ),
        ],
        features=Features(written=2000, **LAGS, divergent=0, rows_compared=2000),
        sessions=Sessions(opened=50, saved=300, moved=99, refused=0, open_at_loss=50, went_on=50, **LAGS),
        userdata=UserData(written=220, **LAGS, divergent=0, rows_compared=180) if user_data else None,
        bridge=Bridge(sent=1300, received=1300, repeated=2, **LAGS),
        parity=[
            Parity(store="features", equal=True, differing=0, sides=dict.fromkeys(("aws", "gcp"), SIDE), skipped=""),
            Parity(
                store="userdata/users", equal=True, differing=0, sides=dict.fromkeys(("aws", "gcp"), SIDE), skipped=""
            )
            if user_data
            else Parity(store="userdata", equal=None, differing=0, sides={}, skipped="nothing stands for Spanner here"),
        ],
        failover=FLIP,
        flip=FLIP,
        service=[
            ServiceFigures(
                site=site,
                inference_ms=Quantiles(p50=1, p99=3),
                feature_read_ms=Quantiles(p50=4, p99=9),
                model_load_seconds=0.4,
                fleet_asked=2,
                fleet_running=2,
            )
            for site in ("aws", "gcp")
        ],
        ground=Ground(dynamodb="DynamoDB Local"),
        host=Host(cpu="a processor", cores=2, memory="24 GiB"),
        seconds=140,
        passed=passed,
        checks={"both versions verified": True, "no write lost": passed},
    )


def timeline() -> Timeline:
    return Timeline(
        requests=[
            RequestSecond(
                second=second, aws=20 if second < 30 else 0, gcp=0 if second < 30 else 20, failed=int(second == 30)
            )
            for second in range(60)
        ],
        marks=[
            Mark(second=30, label="AWS killed"),
            Mark(second=33, label="pulumi up"),
            Mark(second=46, label="proven"),
        ],
        lag=[LagSample(second=second / 4, lag_ms=40 + second % 17 * 30) for second in range(120)],
        lag_back=[LagSample(second=second / 2, lag_ms=90 + second % 13 * 40) for second in range(60)],
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = os.environ.get(BROWSER) or shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on PATH: install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, headless=True)
        yield started
        started.close()


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_complete_and_keeps_to_itself(browser: Browser, tmp_path: Path, width: int, scheme: str) -> None:
    write.write(demo(), timeline(), tmp_path)
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto((tmp_path / "index.html").as_uri())
    assert problems == []
    assert requested == [(tmp_path / "index.html").as_uri()]
    text = page.inner_text("body")
    for wanted in (
        "A cloud was lost and the service stayed.",
        "2 / 900",
        "50 / 50",
        "reset mid-answer",
        "gate <green>",
        "users and orders",
        "aws, gcp, r2",
    ):
        assert wanted in text
    assert page.locator("svg").count() == 3
    assert page.locator("svg rect.failed").count() == 1
    # Nothing sticks out to the side: a phone shows the page without a horizontal scroll.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    page.close()


def test_what_a_machine_can_not_run_is_named_and_not_filled_in(browser: Browser, tmp_path: Path) -> None:
    write.write(demo(user_data=False), timeline(), tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    text = page.inner_text("body")
    assert "nothing stands for Spanner here" in text
    assert "users and orders" not in text
    page.close()


def test_a_run_that_failed_says_so(browser: Browser, tmp_path: Path) -> None:
    write.write(demo(passed=False), timeline(), tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert "This run did not pass every check." in page.inner_text("h1")
    assert page.locator("td.bad").inner_text() == "FAILED"
    page.close()
