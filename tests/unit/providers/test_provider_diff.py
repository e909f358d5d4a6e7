"""Changes of inputs, and which of them replace a resource."""

from local.names import Cloud
from local.providers import behaviours, diff
from local.providers.behaviours.table import Account
from local.providers.diff import Change
from local.providers.wire import UNKNOWN, Asset, Secret

QUEUE = behaviours.find(Cloud.AWS, "aws:sqs/queue:Queue")
FUNCTION = behaviours.find(Cloud.AWS, "aws:lambda/function:Function")
ACCOUNT = Account(region="us-west-2", account="123456789012")


def archive(content_hash: str) -> Asset:
    return Asset(archive=True, hash=content_hash, body={"path": f"/tmp/{content_hash}.zip"})


def test_equal_inputs_have_no_changes_secret_or_not() -> None:
    assert diff.changes(QUEUE, {"name": "a", "policy": Secret("p")}, {"name": "a", "policy": "p"}, []) == []


def test_changes_have_paths_and_kinds() -> None:
    old = {"tags": {"a": "1", "gone": "x"}, "delaySeconds": 1}
    new = {"tags": {"a": "2", "with.dot": "y"}, "delaySeconds": 1, "fifoQueue": True}
    assert diff.changes(QUEUE, old, new, []) == [
        Change("fifoQueue", "add", replaces=True),
        Change("tags.a", "update", replaces=False),
        Change("tags.gone", "delete", replaces=False),
        Change('tags["with.dot"]', "add", replaces=False),
    ]


def test_lists_are_compared_place_by_place() -> None:
    found = diff.changes(FUNCTION, {"layers": ["a", "b"]}, {"layers": ["a", "c", "d"]}, [])
    assert [(change.path, change.kind) for change in found] == [("layers[1]", "update"), ("layers[2]", "add")]


def test_assets_differ_by_content_and_not_by_place() -> None:
    moved = Asset(archive=True, hash="one", body={"path": "/elsewhere.zip"})
    assert diff.changes(FUNCTION, {"code": archive("one")}, {"code": moved}, []) == []
    assert diff.changes(FUNCTION, {"code": archive("one")}, {"code": archive("two")}, []) == [
        Change("code", "update", replaces=False)
    ]


def test_a_value_that_is_not_known_yet_counts_as_changed() -> None:
    assert diff.changes(QUEUE, {"name": "a"}, {"name": UNKNOWN}, []) == [Change("name", "update", replaces=True)]


def test_ignored_paths_never_differ() -> None:
    old, new = {"tags": {"a": "1"}, "name": "a"}, {"tags": {"a": "2"}, "name": "b"}
    assert diff.changes(QUEUE, old, new, ["tags", "name"]) == []
    assert diff.changes(QUEUE, old, new, ["tags.a", "nam"]) == [Change("name", "update", replaces=True)]


def test_a_replacement_under_the_same_id_deletes_first() -> None:
    url = "https://sqs.us-west-2.amazonaws.com/123456789012/jobs"
    assert diff.delete_first(QUEUE, ACCOUNT, url, {"name": "jobs", "fifoQueue": True})
    assert not diff.delete_first(QUEUE, ACCOUNT, url, {"name": "jobs2"})
    balancer = behaviours.find(Cloud.AWS, "aws:ec2/vpc:Vpc")
    assert not diff.delete_first(balancer, ACCOUNT, "vpc-0", {})
