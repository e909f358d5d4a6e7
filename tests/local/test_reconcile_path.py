"""Reconciling a DynamoDB table and a Bigtable table through the deployed handlers, and `verify` on top."""

import base64
import json
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from replication_sites import Sites, make_sites, sdk_variables, variables

from functions import entry_aws
from functions.features.client import FeatureStore
from functions.features.envelope import Envelope, decode, encode
from functions.features.reconcile.rule import DYNAMODB_KEEPS_MS, ms_document
from functions.features.reconcile.steps import turn
from functions.features.reconcile.survey import BucketShelf, FreePace, MemoryShelf, Run, Survey
from functions.features.reconcile.turn import Phase
from functions.features.version import stamp
from functions.settings import SITE, Site
from functions.stores.errors import StoreRefusedError
from functions.stores.protocols import FeatureTable, Row
from local.ground.client import GroundClient
from operate.verify.features import verify_features
from operate.verify.parity import StoreParity, parity_rows


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def row(key: str, ago_ms: int, value: int, site: Site = Site.AWS) -> Row:
    return Row(key, stamp(now_ms() - ago_ms, 0, site), encode(Envelope({"n": value, "name": f"of {key}"})))


class Context:
    """Lambda's context with all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@pytest.fixture
def sites(ground: GroundClient) -> Iterator[Sites]:
    with variables(sdk_variables(ground)):
        made = make_sites(ground)
        with variables({**made.environment, SITE: Site.AWS}):
            entry_aws._clients.cache_clear()
            yield made
    entry_aws._clients.cache_clear()


def rows_of(table: FeatureTable) -> dict[str, Row]:
    return {each.key: each for each in table.scan()}


@pytest.mark.parametrize("site", list(Site))
def test_shares_are_the_table_once_each(sites: Sites, site: Site) -> None:
    table = sites.clients(Site.AWS).feature_table(site)
    rows = [row(f"user#{number:05d}", 1_000, number) for number in range(900)]
    table.apply(rows)
    for most in (1, 2, 7):
        shares = table.shares(most)
        assert 1 <= len(shares) <= most
        found = [each for share in shares for each in table.scan_share(share)]
        assert sorted(found, key=lambda each: each.key) == rows
    for wrong in ("", "x", "3/2", "zz:"):
        with pytest.raises(StoreRefusedError):
            list(table.scan_share(wrong))


@pytest.mark.parametrize("site", list(Site))
def test_a_swap_needs_the_very_version_that_was_seen(sites: Sites, site: Site) -> None:
    table = sites.clients(Site.AWS).feature_table(site)
    first, second, third = (row("k", ago, ago) for ago in (300, 200, 100))
    assert table.swap(first, None)
    assert not table.swap(second, None)
    assert table.swap(second, first.version)
    assert not table.swap(third, first.version)
    assert table.read(["k"]) == {"k": second}


def test_a_swap_over_an_unaware_row(sites: Sites) -> None:
    table = sites.clients(Site.AWS).adopting_rows
    boto3.resource("dynamodb").Table(f"{sites.name}-features").put_item(Item={"entity": "plain", "n": 1})
    assert not table.swap(row("plain", 1, 2), None)
    assert not table.swap(row("nobody", 1, 2), 0)
    assert table.swap(row("plain", 1, 2), 0)
    assert not table.swap(row("plain", 0, 3), 0)


def test_an_unreadable_row_stops_no_scan(sites: Sites) -> None:
    tables = {site: sites.clients(Site.AWS).feature_table(site) for site in Site}
    tables[Site.AWS].apply([row("good", 1, 1)])
    boto3.resource("dynamodb").Table(f"{sites.name}-features").put_item(Item={"entity": "bad", "v": 8, "e": b"what"})
    tables[Site.GCP].apply([Row("bad", 8, b"what"), row("good", 1, 1)])
    for site, table in tables.items():
        summary = Survey(site, table, MemoryShelf(), Run("1", 0)).scan(FreePace(), lambda: False)
        assert summary is not None
        assert (summary.rows, summary.unreadable) == (1, 1)


def verified(sites: Sites) -> StoreParity:
    return verify_features(sites.clients(Site.AWS), now_ms, lambda text: None)


def test_bootstrap_repair_and_proof(sites: Sites) -> None:
    here, there = (sites.clients(Site.AWS).feature_table(site) for site in Site)
    chance = random.Random(11)
    common = [row(f"user#{number}", 90_000, number) for number in range(300)]
    here.apply(common)
    there.apply(chance.sample(common, 250))
    newer_here = [row(f"user#{number}", 9_000, 1_000 + number) for number in range(10)]
    newer_there = [row(f"user#{number}", 9_000, 2_000 + number, Site.GCP) for number in range(10, 20)]
    here.apply(newer_here)
    there.apply([*newer_there, row("only there", 5_000, 1, Site.GCP)])
    plain = boto3.resource("dynamodb").Table(f"{sites.name}-features")
    plain.put_item(Item={"entity": "never versioned", "price": Decimal("1.50")})
    plain.update_item(
        Key={"entity": "user#30"}, UpdateExpression="SET price = :p", ExpressionAttributeValues={":p": Decimal(2)}
    )
    before = verified(sites)
    assert not before.equal
    assert before.differing >= 52
    assert any("differ" in line[-1] for line in parity_rows(before))

    answer = entry_aws.features_reconcile({}, Context())  # type: ignore[arg-type]
    assert answer["phase"] == Phase.WAITING
    phase, report = turn(sites.settings(Site.GCP), sites.clients(Site.GCP), now_ms).run(lambda: False)
    assert (phase, report is not None and report.equal) == (Phase.DONE, True)
    assert rows_of(here) == rows_of(there)
    assert len(rows_of(here)) == 302
    found = FeatureStore(there, Site.GCP, now_ms).get_many(["user#3", "user#13", "user#30", "never versioned"])
    assert found["user#3"].attributes["n"] == 1_003
    assert found["user#13"].attributes["n"] == 2_013
    assert found["user#30"].attributes == {"n": 30, "name": "of user#30", "price": 2}
    assert found["never versioned"].attributes == {"price": Decimal("1.5")}
    after = verified(sites)
    assert (after.equal, after.differing) == (True, 0)
    assert {side.rows for side in after.sides.values()} == {302}
    assert len({side.digest for side in after.sides.values()}) == 1
    assert entry_aws.features_reconcile({}, Context()) == {"phase": Phase.IDLE}  # type: ignore[arg-type]


def test_what_can_not_be_merged_is_parked_and_shows(sites: Sites) -> None:
    tables = {site: sites.clients(Site.AWS).feature_table(site) for site in Site}
    ahead = row("ahead", -3_600_000, 1)
    tables[Site.AWS].apply([ahead, row("good", 5, 1)])
    phase, report = turn(sites.settings(Site.AWS), sites.clients(Site.AWS), now_ms).run(lambda: False)
    assert phase is Phase.WAITING
    phase, report = turn(sites.settings(Site.GCP), sites.clients(Site.GCP), now_ms).run(lambda: False)
    assert report is not None
    assert (report.equal, report.parked) == (False, 1)
    assert set(rows_of(tables[Site.GCP])) == {"good"}
    bucket = sites.clients(Site.GCP).objects(Site.GCP)
    parked: list[Any] = [json.loads(bucket.get(info.key, 1 << 20)[0]) for info in bucket.list("parked/features/")]
    assert [each["record"]["key"] for each in parked] == ["ahead"]
    told = verified(sites)
    assert not told.equal
    assert told.sides[Site.GCP].parked == 1
    assert decode(ahead.envelope).attributes["n"] == 1


def test_a_stream_that_was_trimmed_past_the_checkpoint_is_made_up_for(sites: Sites) -> None:
    here, there = (sites.clients(Site.AWS).feature_table(site) for site in Site)
    assert entry_aws.features_reconcile({}, Context())["phase"] == Phase.WAITING  # type: ignore[arg-type]
    turn(sites.settings(Site.GCP), sites.clients(Site.GCP), now_ms).run(lambda: False)
    shelf = BucketShelf(sites.clients(Site.AWS).objects(Site.AWS))
    # The last batch that was applied in full is older than what the stream keeps, and these rows' records are gone.
    shelf.put("watermark/features.json", ms_document(now_ms() - DYNAMODB_KEEPS_MS - 60_000))
    here.apply([row(f"lost#{number}", 5_000, number) for number in range(40)])
    assert entry_aws.features_reconcile({}, Context()) == {"phase": Phase.IDLE}  # type: ignore[arg-type]

    fresh = row("fresh", 10, 1)
    change = {
        "Keys": {"entity": {"S": fresh.key}},
        "NewImage": {
            "entity": {"S": fresh.key},
            "v": {"N": str(fresh.version)},
            "e": {"B": base64.b64encode(fresh.envelope).decode()},
        },
        "SequenceNumber": "100000000000000000001",
    }
    here.apply([fresh])
    answer = entry_aws.features_apply({"Records": [{"eventName": "INSERT", "dynamodb": change}]}, None)
    assert answer == {"batchItemFailures": []}
    assert set(rows_of(there)) == {"fresh"}

    assert entry_aws.features_reconcile({}, Context())["phase"] == Phase.WAITING  # type: ignore[arg-type]
    phase, report = turn(sites.settings(Site.GCP), sites.clients(Site.GCP), now_ms).run(lambda: False)
    assert report is not None
    assert (phase, report.equal, report.differing, report.sent) == (Phase.DONE, True, 40, {Site.GCP: 40})
    assert len(set(report.digests.values())) == 1
    assert rows_of(here) == rows_of(there)
    assert entry_aws.features_reconcile({}, Context()) == {"phase": Phase.IDLE}  # type: ignore[arg-type]
