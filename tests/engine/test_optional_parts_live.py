"""A stack with all its optional parts, deployed by `pulumi` on a ground: rows and messages cross; a second run is empty."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import boto3
import grpc
import httpx
import psycopg
import pytest
from google.cloud.bigtable.data import BigtableDataClient
from google.cloud.bigtable.data.mutations import DeleteAllFromRow
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from functions import settings
from functions.features.envelope import Envelope, decode, encode
from functions.features.feast.layout import ENTITY, EVENT, VALUES, FeastView, parts
from functions.features.plan import Outcome
from functions.features.redis.source import RedisRows, open_source
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.protocols import FeatureTable, Row
from functions.userdata.schema import REFERENCE_TABLES
from local.ground import user_data
from tests.engine.live import Live
from tests.local.replication_sites import sdk_variables, variables
from tests.local.userdata_sites import a_user, an_order, now_ms

pytestmark = pytest.mark.skipif(bool(user_data.missing()), reason=user_data.missing() or "user data can run")
REGION = "us-west-2"
VIEW = FeastView("shop", "user_stats", ("user_id",), ("clicks", "score"))
WANTED = {"theirs": 1, "f0": 0, "f1": 1, "f2": 2}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Live.running(tmp_path_factory.mktemp("optional"), whole=True) as live:
        stream = _feasts_table(live)
        view = {"streamArn": stream, "project": VIEW.project, "view": VIEW.name, "entities[0]": VIEW.entities[0]}
        values = {**view, **{f"features[{number}]": name for number, name in enumerate(VIEW.features)}}
        place = f'lifeboat:feastTables["{VIEW.dynamodb_table}"].'
        pairs = [part for name, value in values.items() for part in ("--plaintext", f"{place}{name}={value}")]
        live.engine.run("config", "set-all", "--path", *pairs).expect(0)
        live.up().expect(0)
        yield live


def _feasts_table(live: Live) -> str:
    """Make a table as Feast does, with the stream that its owner has to switch on, and return the stream's ARN."""
    with variables({**sdk_variables(live.client), "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}):
        made = boto3.client("dynamodb").create_table(
            TableName=VIEW.dynamodb_table,
            KeySchema=[{"AttributeName": ENTITY, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": ENTITY, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
    name: str = made["TableDescription"]["LatestStreamArn"]
    return name


def until(condition: Callable[[], bool], what: str, limit_seconds: float = 60.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_seconds, f"{what}: not so within {limit_seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


def environment_of(live: Live, purpose: str) -> dict[str, str]:
    (row,) = [
        row for row in live.engine.rows() if row.type == "aws:lambda/function:Function" and row.id.endswith(purpose)
    ]
    given: dict[str, str] = row.inputs["environment"]["variables"]
    return {**sdk_variables(live.client), "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, **given}


@pytest.mark.timeout(600)
def test_a_second_run_changes_nothing(deployed: Live) -> None:
    assert deployed.up().expect(0).changed == {}


@pytest.mark.timeout(300)
def test_rows_cross_both_ways_and_both_sides_agree(deployed: Live, tell: Callable[[str], None]) -> None:
    environment = environment_of(deployed, "-userdata-drain")
    with variables(environment):
        clients = Clients(settings.read(environment), environment)
        aurora, spanner = clients.aurora(REFERENCE_TABLES), clients.spanner(REFERENCE_TABLES, now_ms)
        chance = random.Random(1)
        ours, theirs = [a_user(chance) for _ in range(20)], [a_user(chance) for _ in range(20)]
        lags: dict[str, list[float]] = {"aws to gcp": [], "gcp to aws": []}
        for row in ours:
            change = aurora.put("users", row)
            lags["aws to gcp"].append(
                until(lambda c=change: spanner.read("users", [c.key]).get(c.key) == c, "aws to gcp")
            )
        for row in theirs:
            change = spanner.put("users", row)
            lags["gcp to aws"].append(
                until(lambda c=change: aurora.read("users", [c.key]).get(c.key) == c, "gcp to aws")
            )
        aurora.put("orders", an_order(chance, str(theirs[0]["id"])))
        spanner.put("orders", an_order(chance, str(ours[0]["id"])))

        def verified() -> bool:
            answer = httpx.post(
                f"{deployed.client.endpoints.aws_api}/functions/lifeboat-local-userdata-drain/invoke",
                json={"action": "verify"},
                timeout=60,
            )
            found = answer.raise_for_status().json()
            return found["parked"] == 0 and all(
                each["equal"] and each["rows"]["aws"] == (40 if each["table"] == "users" else 2)
                for each in found["tables"]
            )

        until(verified, "the drain's own proof says equal")
    for direction, found in lags.items():
        middle = sorted(found)[len(found) // 2]
        tell(f"{direction}: median {middle * 1000:.0f} ms, most {max(found) * 1000:.0f} ms")


@pytest.mark.timeout(300)
def test_what_is_set_in_redis_is_in_both_tables(deployed: Live, tell: Callable[[str], None]) -> None:
    places = deployed.engine.outputs()["redisSource"]
    environment = environment_of(deployed, "-redis-forward")
    began = time.monotonic()
    with variables(environment), ThreadPoolExecutor() as pool:
        # What the clocks do every minute; a call goes on for its time, and ends meanwhile.
        apis = (deployed.client.endpoints.aws_api, deployed.client.endpoints.gcp_api)
        calls = [
            pool.submit(httpx.post, f"{api}/schedules/run", json={"id": "redis-forward"}, timeout=60) for api in apis
        ]
        clients = Clients(settings.read(environment), environment)
        tables = {site: clients.feature_table(site) for site in Site}
        lags: list[float] = []
        for site in Site:
            redis = RedisRows(open_source(f"redis://{places[site]['host']}:{places[site]['port']}"), site)
            # The table has more of the row than Redis knows, by a program of the other site.
            before = Row(f"redis-{site}", stamp(now_ms(), 0, site.peer), encode(Envelope({"theirs": 1})))
            assert tables[site.peer].write(before) is None
            until(lambda s=site, b=before: tables[s].read([b.key]) == {b.key: b}, "the row of the other site")
            redis.prepare()
            wrote = time.monotonic()
            for number in range(3):
                redis.set_features(before.key, {f"f{number}": number})
            for table in (tables[site], tables[site.peer]):
                until(lambda t=table, k=before.key: _attributes(t, k) == WANTED, f"all of {before.key}")
            assert tables[Site.AWS].read([before.key]) == tables[Site.GCP].read([before.key])
            lags.append(time.monotonic() - wrote)
        assert [call.result().json()["succeeded"] for call in calls] == [True, True]
    tell(
        f"set in redis to both tables: {', '.join(f'{lag * 1000:.0f} ms' for lag in lags)}; {time.monotonic() - began:.1f} s"
    )


def _attributes(table: FeatureTable, key: str) -> object:
    found = table.read([key]).get(key)
    return decode(found.envelope).attributes if found is not None else None


@pytest.mark.filterwarnings("ignore:Connecting to Bigtable emulator")
@pytest.mark.timeout(300)
def test_what_feast_writes_there_is_where_feast_reads_it_here(deployed: Live, tell: Callable[[str], None]) -> None:
    environment = environment_of(deployed, "-feast-apply")
    with variables(environment):
        rows = Clients(settings.read(environment), environment).feast_rows(VIEW)
        values = {"clicks": b"\x20\x07", "score": b"\x29\x00\x00\x00\x00\x00\x00\xe0?"}
        item = {
            ENTITY: {"S": "0a1b"},
            EVENT: {"S": "2026-11-24 10:00:00+00:00"},
            VALUES: {"M": {name: {"B": data} for name, data in values.items()}},
        }
        boto3.client("dynamodb").put_item(TableName=VIEW.dynamodb_table, Item=item)
        lag = until(lambda: "0a1b" in rows.read(["0a1b"]), "Feast's row")
        assert parts(rows.read(["0a1b"])["0a1b"]) == ("2026-11-24T10:00:00+00:00", values)
        _lose(environment, "0a1b")
        assert not rows.read(["0a1b"])
        answer = httpx.post(
            f"{deployed.client.endpoints.aws_api}/functions/lifeboat-local-feast-apply/invoke",
            json={"action": "bootstrap", "table": VIEW.dynamodb_table},
            timeout=60,
        )
        counts = answer.raise_for_status().json()
        assert counts[Outcome.APPLIED] == sum(counts.values()) == 1
        assert parts(rows.read(["0a1b"])["0a1b"]) == ("2026-11-24T10:00:00+00:00", values)
    tell(f"feast's row: {lag * 1000:.0f} ms")


def _lose(environment: Mapping[str, str], entity: str) -> None:
    """Take an entity's row out of Bigtable, as if it had never come."""
    place = settings.read(environment).bigtable_table
    assert place is not None
    with (
        BigtableDataClient(project=place.project) as client,
        client.get_table(place.instance, VIEW.bigtable_table) as table,
    ):
        table.mutate_row(VIEW.row_key(entity), DeleteAllFromRow())


@pytest.mark.timeout(300)
def test_messages_cross_both_ways_exactly_once_each(deployed: Live) -> None:
    outputs = deployed.engine.outputs()["bridge"]
    with variables({**sdk_variables(deployed.client), "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}):
        sqs = boto3.client("sqs")
        outgoing = sqs.get_queue_url(QueueName=outputs["outgoing"].rpartition("/")[2])["QueueUrl"]
        incoming = sqs.get_queue_url(QueueName=outputs["incoming"].rpartition("/")[2])["QueueUrl"]
        publisher = PublisherClient(
            transport=PublisherGrpcTransport(channel=grpc.insecure_channel(deployed.client.endpoints.pubsub))
        )
        for number in range(30):
            sqs.send_message(QueueUrl=outgoing, MessageBody=f"from aws {number}")
        publisher.publish(
            topic=outputs["topic"], messages=[{"data": f"from gcp {number}".encode()} for number in range(30)]
        )
        arrived: list[str] = []

        def take() -> bool:
            for message in sqs.receive_message(QueueUrl=incoming, MaxNumberOfMessages=10).get("Messages", ()):
                arrived.append(message["Body"])
                sqs.delete_message(QueueUrl=incoming, ReceiptHandle=message["ReceiptHandle"])
            return len(arrived) >= 30

        until(take, "30 messages of gcp at aws")
        until(lambda: _waiting(sqs, outgoing) == 0, "aws's own are gone")
        assert sorted(arrived) == sorted(f"from gcp {number}" for number in range(30))


def _waiting(sqs: object, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]  # type: ignore[attr-defined]
    return sum(int(found[name]) for name in names)


@pytest.mark.timeout(600)
def test_destroy_leaves_no_database(deployed: Live) -> None:
    deployed.destroy().expect(0)
    host, port = deployed.client.endpoints.postgres.split(":")
    with psycopg.connect(host=host, port=int(port), user=user_data.POSTGRES_USER, dbname="postgres") as server:
        left = [name for (name,) in server.execute("SELECT datname FROM pg_database") if "." in name]
    assert left == []
