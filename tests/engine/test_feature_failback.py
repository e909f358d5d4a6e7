"""A failback is a shift like any other: rows of Google's side reach AWS, so its gate is green without an override."""

from functions.settings import Site
from local.names import Cloud, FaultMode
from tests.engine.live import Live


def test_a_failback_after_a_lost_cloud_needs_no_override(live: Live) -> None:
    live.settle(Site.AWS)
    live.fault(Cloud.AWS, FaultMode.KILL)
    live.activate(Site.GCP)
    live.up().expect(0)
    live.until_answered_by(Site.GCP)
    live.restore(Cloud.AWS)
    live.activate(Site.AWS)
    back = live.up().expect(0)
    for check in ("ready", "same_model", "feature_lag", "feature_silence"):
        assert f"gate: passed {check}" in back.output, back.output
    assert "overridden" not in back.output
    live.until_answered_by(Site.AWS)
