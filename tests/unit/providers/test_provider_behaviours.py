"""Names, ids and outputs of the behaviour tables."""

import re

import pytest

from local.names import Cloud
from local.providers import behaviours, naming, schema
from local.providers.behaviours.table import Account, AutoName, Behaviour, Scope, hashed
from local.providers.errors import UnknownTypeError
from local.providers.wire import UNKNOWN, Unknown

ACCOUNT = Account(region="us-west-2", account="123456789012", project="demo", number="100000000001")
ENTRIES = [entry for table in behaviours.TABLES.values() for entry in table]


def scope(**inputs: object) -> Scope:
    return Scope(inputs, ACCOUNT, hashed("urn:x"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.token)
def test_every_entry_fits_the_installed_package(entry: Behaviour) -> None:
    fits = schema.load(entry.token)
    assert entry.replace <= set(fits.inputs)
    assert {name.partition(".")[0] for name in entry.outputs} <= fits.outputs
    if entry.auto_name is not None:
        assert entry.auto_name.property in fits.inputs
    templates = [entry.id, *(rule for rule in entry.outputs.values() if isinstance(rule, str))]
    used = {
        name.partition(".")[0]
        for template in templates
        for group in re.findall(r"\{([^{}|]+)", template)
        for name in group.split(",")
        if name[0] not in "@="
    }
    assert used <= set(fits.inputs) | set(entry.outputs)


def test_every_entry_stands_in_the_table_of_its_cloud_once() -> None:
    tokens = [entry.token for entry in ENTRIES]
    assert len(tokens) == len(set(tokens))
    for cloud, table in behaviours.TABLES.items():
        assert all(entry.token.startswith(f"{cloud}:") for entry in table)


@pytest.mark.parametrize(
    ("token", "inputs", "outputs"),
    [
        (
            "aws:sqs/queue:Queue",
            {"name": "jobs"},
            {
                "url": "https://sqs.us-west-2.amazonaws.com/123456789012/jobs",
                "arn": "arn:aws:sqs:us-west-2:123456789012:jobs",
            },
        ),
        (
            "aws:sqs/queue:Queue",
            {"name": "jobs", "region": "eu-west-1"},
            {"arn": "arn:aws:sqs:eu-west-1:123456789012:jobs", "region": "eu-west-1"},
        ),
        ("aws:iam/role:Role", {"name": "r", "path": "/x/"}, {"arn": "arn:aws:iam::123456789012:role/x/r"}),
        ("gcp:storage/bucket:Bucket", {"name": "b", "location": "US"}, {"url": "gs://b", "project": "demo"}),
        (
            "gcp:serviceaccount/account:Account",
            {"accountId": "rebuild"},
            {
                "email": "rebuild@demo.iam.gserviceaccount.com",
                "member": "serviceAccount:rebuild@demo.iam.gserviceaccount.com",
            },
        ),
        (
            "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
            {"name": "fleet", "region": "us-west1"},
            {
                "selfLink": "https://www.googleapis.com/compute/v1/projects/demo/regions/us-west1"
                "/instanceGroupManagers/fleet"
            },
        ),
        (
            "gcp:cloudfunctionsv2/function:Function",
            {"name": "f", "location": "us-west1", "serviceConfig": {"availableMemory": "1Gi"}},
            {
                "serviceConfig": {
                    "availableMemory": "1Gi",
                    "uri": "https://f-100000000001.us-west1.run.app",
                    "service": "projects/demo/locations/us-west1/services/f",
                }
            },
        ),
    ],
)
def test_outputs_have_the_clouds_own_forms(token: str, inputs: dict[str, object], outputs: dict[str, object]) -> None:
    computed = behaviours.find(Cloud(token.partition(":")[0]), token).compute(scope(**inputs))
    assert {name: computed.get(name) for name in outputs} == outputs


def test_a_load_balancers_host_name_is_its_own_and_unknown_before_it_exists() -> None:
    entry = behaviours.find(Cloud.AWS, "aws:lb/loadBalancer:LoadBalancer")
    name = entry.compute(scope(name="front"))["dnsName"]
    assert re.fullmatch(r"front-\d{10}\.us-west-2\.elb\.amazonaws\.com", name)
    assert entry.compute(scope(name="front"))["dnsName"] == name
    assert entry.compute(Scope({"name": "front"}, ACCOUNT))["dnsName"] == UNKNOWN


def test_what_a_cloud_made_up_stays_over_an_update() -> None:
    entry = behaviours.find(Cloud.AWS, "aws:lb/loadBalancer:LoadBalancer")
    created = entry.compute(Scope({"name": "front"}, ACCOUNT, hashed("first"), "id"))
    updated = entry.compute(
        Scope({"name": "front", "idleTimeout": 5}, ACCOUNT, hashed("other"), "id", {}, {"name": "front"}, created)
    )
    assert updated["dnsName"] == created["dnsName"]


def test_an_output_over_an_unknown_input_is_unknown_and_the_others_are_known() -> None:
    entry = behaviours.find(Cloud.GCP, "gcp:pubsub/topicIAMMember:TopicIAMMember")
    inputs = {"topic": "t", "role": "roles/x", "member": UNKNOWN}
    assert isinstance(entry.identify(scope(**inputs)), Unknown)
    assert entry.compute(scope(**inputs))["project"] == "demo"


def test_a_launch_template_counts_its_versions() -> None:
    entry = behaviours.find(Cloud.AWS, "aws:ec2/launchTemplate:LaunchTemplate")
    first = entry.compute(scope(name="lt", imageId="ami-1"))
    assert first["latestVersion"] == 1
    old = {"name": "lt", "imageId": "ami-1"}
    second = entry.compute(Scope({**old, "imageId": "ami-2"}, ACCOUNT, "t", "lt-0", {}, old, first))
    assert second["latestVersion"] == 2


def test_a_type_without_an_entry_is_refused_by_name() -> None:
    with pytest.raises(UnknownTypeError, match="no behaviour for aws:sns/topic:Topic"):
        behaviours.find(Cloud.AWS, "aws:sns/topic:Topic")


def named(rule: AutoName, inputs: dict[str, object], old: dict[str, object] | None = None) -> object:
    return naming.fill_name(rule, "Jobs", inputs, old or {}, lambda count: "abcdef0123"[:count])[rule.property]


def test_a_name_is_made_once_and_kept() -> None:
    rule = AutoName(maximum=80)
    assert named(rule, {}) == "Jobs-abcdef0"
    assert named(rule, {}, {"name": "Jobs-1234567"}) == "Jobs-1234567"
    assert named(rule, {"name": "mine"}, {"name": "Jobs-1234567"}) == "mine"


def test_a_made_name_obeys_the_services_rules() -> None:
    assert named(AutoName(maximum=10, lowercase=True), {}) == "jobabcdef0"
    assert named(AutoName(prefix="alias/"), {}) == "alias/Jobs-abcdef0"


def test_a_changed_prefix_makes_a_new_name() -> None:
    rule = AutoName()
    old = {"namePrefix": "a-", "name": "a-1234567"}
    assert named(rule, {"namePrefix": "a-"}, old) == "a-1234567"
    assert named(rule, {"namePrefix": "b-"}, old) == "b-abcdef0"
