"""The program on an undisturbed ground: what is there after `up`, that a second one is empty, bad config, drift."""

import httpx

from functions.settings import Site
from local.names import Cloud
from tests.engine.live import Live, operate

QUEUE_MAPPING = "artifacts-plan-queue"
# The steps of both directions have one name on either cloud.
BOTH_WAYS = {f"lifeboat-local-artifact-{step}" for step in ("plan", "encode", "rebuild", "sweep")}
CARRIES_FEATURES = "lifeboat-local-features-apply"


def calls(live: Live, function: str) -> int:
    """Return how often a function on AWS has been called since its cloud was started."""
    aws = httpx.get(f"{live.client.endpoints.aws_api}/functions/statistics", trust_env=False).json()
    return int(aws["functions"][function]["invocations"])


def test_up_makes_what_the_topology_says(live: Live) -> None:
    live.settle(Site.AWS)
    outputs = live.engine.outputs()
    assert outputs["active"] == "aws"
    assert {site: outputs["sites"][site]["fleetSize"] for site in Site} == {Site.AWS: 2, Site.GCP: 1}
    for site, size in ((Site.AWS, 2), (Site.GCP, 1)):
        fleet = live.ground.fleet(site)
        assert fleet is not None
        assert (fleet.asked, fleet.running, fleet.ready) == (size, size, size)
    assert live.pool_order() == ["lifeboat-local-aws", "lifeboat-local-gcp"]
    live.until_answered_by(Site.AWS)


def test_the_clouds_hold_exactly_the_resources_that_the_engine_knows(live: Live) -> None:
    live.settle(Site.AWS)
    held = {(row[2], row[3]) for row in live.rows()}
    assert held == live.deployed()
    assert len(held) == len(live.rows())


def test_functions_and_their_event_sources_run(live: Live) -> None:
    live.settle(Site.AWS)
    aws = httpx.get(f"{live.client.endpoints.aws_api}/functions/statistics", trust_env=False).json()
    gcp = httpx.get(f"{live.client.endpoints.gcp_api}/functions/statistics", trust_env=False).json()
    for cloud in (aws, gcp):
        assert {name.rpartition("/")[2] for name in cloud["functions"]} >= BOTH_WAYS
    sources = {
        (each["source"].split(":")[5].partition("/stream/")[0], each["function"]) for each in aws["event_sources"]
    }
    assert sources >= {
        ("lifeboat-local-artifact-events", "lifeboat-local-artifact-plan"),
        ("lifeboat-local-artifact-jobs", "lifeboat-local-artifact-encode"),
        ("lifeboat-local-artifact-rebuild", "lifeboat-local-artifact-rebuild"),
        ("table/lifeboat-local-features", "lifeboat-local-features-apply"),
    }
    lost = [each for each in aws["event_sources"] if not each["enabled"] or each["parked"] + each["discarded"]]
    # An alias whose version is still on its way is handed back to its queue: that is no loss, parking would be one.
    assert not lost
    for step in ("plan", "encode", "rebuild"):
        assert f"projects/lifeboat-local/subscriptions/lifeboat-local-artifact-{step}" in gcp["subscriptions"]
    # A version came all the way, or no host would serve it; its functions may have been started anew since.
    live.wait_for(lambda: ((found := calls(live, CARRIES_FEATURES)) > 0, f"{found} calls"), "heartbeats cross")


def test_a_second_up_changes_nothing_and_asks_no_gate(live: Live) -> None:
    live.settle(Site.AWS)
    before = live.rows()
    second = live.up().expect(0)
    assert second.changed == {}
    assert live.rows() == before
    assert "warning" not in second.output
    assert "gate:" not in second.output


def test_a_preview_of_what_is_deployed_shows_nothing(live: Live) -> None:
    live.settle(Site.AWS)
    preview = live.preview().expect(0)
    assert preview.steps == []
    assert "warning" not in preview.output


def test_bad_config_is_refused_with_every_problem_at_once_and_changes_nothing(live: Live) -> None:
    live.settle(Site.AWS)
    before, state = live.rows(), live.deployed()
    live.engine.configure("lifeboat:active", "azure")
    live.engine.configure("lifeboat:gateSeconds", "0")
    live.engine.configure("lifeboat:activ", "gcp")
    live.engine.run("config", "set", "--path", "lifeboat:fleets.gcp.standby", "none").expect(0)
    refused = live.up()
    said = refused.refused()
    assert "the stack's config has 4 problem(s)" in said
    for problem in (
        "lifeboat:activ is not a key of this program; did you mean lifeboat:active?",
        "lifeboat:active is \"azure\"; allowed: 'aws' or 'gcp'",
        'lifeboat:fleets.gcp.standby is "none"; allowed: 1 to 500 hosts',
        'lifeboat:gateSeconds is "0"; allowed: 1 to 3600 seconds',
    ):
        assert problem in said
    assert refused.changed == {}
    assert (live.rows(), live.deployed()) == (before, state)
    # A preview refuses in the same words, before anybody runs an up.
    assert "the stack's config has 4 problem(s)" in live.preview().refused()


def test_what_was_taken_away_by_hand_is_seen_by_refresh_and_made_again_by_up(live: Live) -> None:
    live.settle(Site.AWS)
    taken = live.row(QUEUE_MAPPING)
    body = {"type": taken[2], "id": taken[3], "name": taken[4], "urn": taken[5]}
    address = f"{live.client.endpoints.aws_api}/resources/delete"
    assert httpx.post(address, json=body, trust_env=False).status_code == httpx.codes.OK
    seen = operate(live.engine, "refresh", "--preview-only", "--expect-no-changes")
    assert seen.refused()
    assert (taken[2], taken[3]) in live.deployed(), "a look must not change the state"
    operate(live.engine, "refresh", "--yes", "--skip-preview").expect(0)
    assert (taken[2], taken[3]) not in live.deployed()
    assert live.up().expect(0).changed == {QUEUE_MAPPING: "create"}
    assert live.deployed() == {(row[2], row[3]) for row in live.rows()}
    assert live.row(QUEUE_MAPPING)[1] == Cloud.AWS
