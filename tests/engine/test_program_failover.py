"""A failover by config on a live stack: planned, refused by a red gate, and with one of the clouds dead, both ways."""

import json
import re

from functions.settings import Site
from local.names import Cloud, FaultMode
from tests.engine.live import HOSTNAME, Applied, Live

AWS_FLEET, GCP_FLEET, BALANCER = "fleet-aws-group", "fleet-gcp-group", "front-door-balancer"
FLIP = {AWS_FLEET: "update", GCP_FLEET: "update", BALANCER: "update"}
AWS_FIRST = ["lifeboat-local-aws", "lifeboat-local-gcp"]
GCP_FIRST = AWS_FIRST[::-1]
BALANCER_TYPE = "cloudflare:index/loadBalancer:LoadBalancer"
FROZEN = "does not answer: the resources of site {} stay as last deployed"


def fleet_sizes(live: Live) -> tuple[int, int]:
    """Return how many hosts the groups of aws and gcp ask for."""
    aws, gcp = (json.loads(live.row(name)[6]) for name in (AWS_FLEET, GCP_FLEET))
    return aws["desiredCapacity"], gcp["targetSize"]


def ready_hosts(live: Live, site: Site) -> int | None:
    """Return how many hosts of a site are ready, None while its cloud does not answer."""
    fleet = live.ground.fleet(site)
    return fleet.ready if fleet else None


def order(applied: Applied) -> list[str]:
    """Return the resources that were changed in the order in which each was done."""
    return [name for step, name in applied.steps if step == "end"]


def test_a_flip_changes_both_fleets_and_the_front_door_in_that_order_and_nothing_else(live: Live) -> None:
    live.settle(Site.AWS)
    before = live.rows()
    live.until_answered_by(Site.AWS)
    live.activate(Site.GCP)
    planned = live.preview().expect(0)
    assert {name for _, name in planned.steps} == set(FLIP)
    assert live.rows() == before
    flip = live.up().expect(0)
    assert flip.changed == FLIP
    assert order(flip) == [GCP_FLEET, BALANCER, AWS_FLEET]
    assert flip.steps.index(("end", BALANCER)) < flip.steps.index(("begin", AWS_FLEET))
    assert flip.steps.index(("end", GCP_FLEET)) < flip.steps.index(("begin", BALANCER))
    assert "gate: passed same_model" in flip.output
    assert f"verification: {HOSTNAME} is served by gcp" in flip.output
    changed = {row[4] for row in set(live.rows()) - set(before)}
    assert changed == set(FLIP)
    assert fleet_sizes(live) == (1, 2)
    assert live.pool_order() == GCP_FIRST
    live.until_answered_by(Site.GCP)
    live.wait_for(live.all_serve, "the fleets are at their new sizes")


def test_a_flip_back_is_the_same_the_other_way_round(live: Live) -> None:
    live.settle(Site.GCP)
    live.activate(Site.AWS)
    flip = live.up().expect(0)
    assert flip.changed == FLIP
    assert order(flip) == [AWS_FLEET, BALANCER, GCP_FLEET]
    assert fleet_sizes(live) == (2, 1)
    assert live.pool_order() == AWS_FIRST
    live.until_answered_by(Site.AWS)


def test_a_red_gate_moves_nothing_and_a_mended_one_shifts(live: Live) -> None:
    live.settle(Site.AWS)
    door, serving = live.row(BALANCER), live.row(AWS_FLEET)
    live.pause("bigtabled")
    live.wait_for(lambda: ((ready := ready_hosts(live, Site.GCP)) == 0, f"{ready} ready"), "no host of gcp is ready")
    # Its checks find out one by one; until then what a host answers, that it is not ready, comes through.
    live.wait_for(lambda: live.balancer_alone(Site.GCP), "the balancer of gcp has no host left")
    live.activate(Site.GCP)
    live.engine.configure("lifeboat:gateSeconds", "2")
    said = (refused := live.up()).refused()
    assert "failover to gcp refused after 2 s" in said
    # A balancer without a ready host answers for itself, so what its hosts serve cannot be read.
    assert "ready 0 of 5 answers (limit all)" in said
    assert re.search(r"same_model none \(limit .+?\)", said)
    assert "feature_lag unknown (limit 60,000 ms): not every answer of gcp could be read" in said
    assert "Traffic has not moved" in said
    assert live.engine.outputs()["active"] == "aws"
    # The fleet that was to serve may have grown; what serves is as it was.
    assert set(refused.changed) <= {GCP_FLEET}
    assert (live.row(BALANCER), live.row(AWS_FLEET)) == (door, serving)
    assert fleet_sizes(live) == (2, 2)
    assert ready_hosts(live, Site.AWS) == 2
    assert live.pool_order() == AWS_FIRST
    live.until_answered_by(Site.AWS)
    live.unpause()
    live.wait_for(live.all_serve, "gcp is ready again")
    live.engine.configure("lifeboat:gateSeconds", "60")
    shifted = live.up().expect(0)
    assert order(shifted) == [BALANCER, AWS_FLEET]
    assert fleet_sizes(live) == (1, 2)
    live.until_answered_by(Site.GCP)


def test_gcp_hangs_and_aws_takes_over(live: Live) -> None:
    live.settle(Site.GCP)
    lost = live.rows(Cloud.GCP)
    live.fault(Cloud.GCP, FaultMode.HANG)
    live.activate(Site.AWS)
    flip = live.up().expect(0)
    assert FROZEN.format("gcp") in flip.output
    assert order(flip) == [AWS_FLEET, BALANCER]
    assert live.rows(Cloud.GCP) == lost
    assert live.pool_order() == AWS_FIRST
    live.until_answered_by(Site.AWS)
    live.restore(Cloud.GCP)
    assert live.up().expect(0).changed == {GCP_FLEET: "update"}
    assert fleet_sizes(live) == (2, 1)


def test_aws_is_a_black_hole_and_gcp_takes_over(live: Live) -> None:
    live.settle(Site.AWS)
    lost = live.rows(Cloud.AWS)
    live.fault(Cloud.AWS, FaultMode.BLACK_HOLE)
    live.activate(Site.GCP)
    flip = live.up().expect(0)
    assert FROZEN.format("aws") in flip.output
    assert order(flip) == [GCP_FLEET, BALANCER]
    assert "aws does not answer: what it wrote in that time may be lost" in flip.output
    assert f"verification: {HOSTNAME} is served by gcp" in flip.output
    assert live.rows(Cloud.AWS) == lost
    assert live.pool_order() == GCP_FIRST
    live.until_answered_by(Site.GCP)

    second = live.up().expect(0)
    assert second.changed == {}
    assert live.rows(Cloud.AWS) == lost

    everything = live.rows()
    live.engine.run("config", "set", "--path", "lifeboat:sites.aws.zones[2]", "us-west-2c").expect(0)
    said = live.up().refused()
    assert re.search(
        r"network-aws-\w+-us-west-2c \(aws:ec2/\w+:\w+\) would have to be made or changed on site aws", said
    )
    assert "whose cloud does not answer" in said and "lifeboat:lost none" in said
    assert live.rows() == everything
    live.until_answered_by(Site.GCP)
    live.engine.run("config", "rm", "--path", "lifeboat:sites.aws.zones[2]").expect(0)

    live.restore(Cloud.AWS)
    back = live.up().expect(0)
    assert back.changed == {AWS_FLEET: "update"}
    assert "stay as last deployed" not in back.output
    assert fleet_sizes(live) == (1, 2)
    live.until_answered_by(Site.GCP)


def test_a_failover_that_was_killed_goes_on_with_the_next_up(live: Live) -> None:
    live.settle(Site.AWS)
    door = live.row(BALANCER)
    live.activate(Site.GCP)
    held = live.hold(BALANCER_TYPE, "update")
    live.kill_up_when(held, "the shift of traffic is under way")
    assert live.row(BALANCER) == door
    assert fleet_sizes(live) == (2, 2)
    live.engine.recover()
    locked = live.up().refused()
    assert "locked" in locked and "pulumi cancel" in locked
    live.engine.run("cancel", "--yes").expect(0)
    goes_on = live.up().expect(0)
    assert order(goes_on) == [BALANCER, AWS_FLEET]
    assert fleet_sizes(live) == (1, 2)
    assert live.pending() == []
    live.until_answered_by(Site.GCP)
