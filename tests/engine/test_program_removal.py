"""The end of a stack, and a first deploy that was killed half-way."""

import json

import boto3
import grpc
import httpx
from google.cloud.bigtable_admin_v2 import BaseBigtableTableAdminClient
from google.cloud.bigtable_admin_v2.services.bigtable_table_admin.transports import BigtableTableAdminGrpcTransport
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from functions.settings import Site
from local.ground.client import GroundClient
from tests.engine.live import HOSTNAME, Live, operate

PROJECT = "projects/lifeboat-local"
# About a third of the stack: stores are there, most of what uses them is not.
ROWS_AT_KILL = 60


def held_by_emulators(ground: GroundClient) -> dict[str, list[str]]:
    """Return the names of all that the emulators themselves hold, whatever the clouds' rows say."""
    endpoints = ground.endpoints

    def aws(service: str, endpoint: str) -> boto3.client:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-west-2",
            aws_access_key_id="lifeboat",
            aws_secret_access_key="local",
        )

    buckets = httpx.get(f"{endpoints.storage}/storage/v1/b", params={"project": "lifeboat-local"}, trust_env=False)
    with grpc.insecure_channel(endpoints.pubsub) as pubsub, grpc.insecure_channel(endpoints.bigtable) as bigtable:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=pubsub))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=pubsub))
        admin = BaseBigtableTableAdminClient(transport=BigtableTableAdminGrpcTransport(channel=bigtable))
        return {
            "s3": [each["Name"] for each in aws("s3", endpoints.aws).list_buckets()["Buckets"]],
            "sqs": aws("sqs", endpoints.aws).list_queues().get("QueueUrls", []),
            "dynamodb": aws("dynamodb", endpoints.dynamodb).list_tables()["TableNames"],
            "r2": [each["Name"] for each in aws("s3", endpoints.r2).list_buckets()["Buckets"]],
            "gcs": [each["name"] for each in buckets.json().get("items") or []],
            "topics": [each.name for each in publisher.list_topics(project=PROJECT)],
            "subscriptions": [each.name for each in subscriber.list_subscriptions(project=PROJECT)],
            "bigtable": [each.name for each in admin.list_tables(parent=f"{PROJECT}/instances/lifeboat-local")],
        }


def test_destroy_leaves_nothing(live: Live) -> None:
    live.settle(Site.GCP)
    assert all(held_by_emulators(live.client).values())
    assert live.leftovers()
    assert HOSTNAME in live.client.names()
    live.destroy().expect(0)
    assert live.deployed() == set()
    assert live.rows() == []
    assert [name for name, held in held_by_emulators(live.client).items() if held] == []
    assert live.leftovers() == []
    assert live.client.names() == {}


def import_into_the_state(live: Live, arrived: dict[str, str]) -> None:
    """Take resources into the state by the ids that their clouds show, as the refusal to make them again advises."""
    pending = {each["urn"]: each for each in live.pending()}
    names: dict[str, str] = {}
    resources = []
    for number, (urn, resource_id) in enumerate(arrived.items()):
        provider = str(pending[urn]["provider"]).rpartition("::")[0]
        names |= {f"parent-{number}": pending[urn]["parent"], f"provider-{number}": provider}
        resources.append(
            {
                "type": pending[urn]["type"],
                # Names are unique by type only, and those in the file in all of it.
                "name": f"resource{number}",
                "logicalName": urn.rpartition("::")[2],
                "id": resource_id,
                "parent": f"parent-{number}",
                "provider": f"provider-{number}",
            }
        )
    file = live.client.folder / "import.json"
    file.write_text(json.dumps({"nameTable": names, "resources": resources}))
    live.engine.run("import", "--file", str(file), "--yes", "--generate-code=false", "--protect=false").expect(0)


def test_a_first_deploy_that_was_killed_is_repaired_and_goes_on(live: Live) -> None:
    live.mend()
    live.destroy().expect(0)
    live.kill_up_when(lambda: len(live.rows()) >= ROWS_AT_KILL, f"the clouds hold {ROWS_AT_KILL} resources")
    live.engine.run("cancel", "--yes").expect(0)
    held, known = {row[5]: row[3] for row in live.rows()}, live.known()
    # Nothing was made that the engine does not know of, or know that it may be there.
    assert set(held) <= known | {each["urn"] for each in live.pending()}
    arrived = {urn: resource_id for urn, resource_id in held.items() if urn not in known}
    if arrived:
        import_into_the_state(live, arrived)
    operate(live.engine, "refresh", "--yes", "--skip-preview", "--clear-pending-creates").expect(0)
    assert live.pending() == []
    goes_on = live.up().expect(0)
    assert set(goes_on.changed.values()) == {"create"}
    assert live.deployed() == {(row[2], row[3]) for row in live.rows()}
