"""A Cloud Run function with the account it runs as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import cloudfunctionsv2, cloudrunv2, projects, serviceaccount, storage

from infra.archives import Archive
from infra.components.google_topic import GoogleTopic

RUNTIME = "python313"


@dataclass(frozen=True, kw_only=True)
class GoogleFunctionSourceArgs:
    """Where the functions' source lies, and as whom it is built."""

    project: str
    location: str
    bucket: str
    builder: str
    archive: Archive


class GoogleFunctionSource(pulumi.ComponentResource):
    """The source archive in a private bucket, and the account that builds it.

    The object's name holds the archive's digest: a changed source is a new object, which makes the functions build anew.
    """

    def __init__(self, name: str, args: GoogleFunctionSourceArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:functions:GoogleFunctionSource", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        bucket = storage.Bucket(
            f"{name}-bucket",
            name=args.bucket,
            location=args.location.upper(),
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning={"enabled": True},
            # It holds nothing but copies of this repository.
            force_destroy=True,
            opts=child,
        )
        archive = storage.BucketObject(
            f"{name}-archive",
            bucket=bucket.name,
            name=f"functions-{args.archive.sha256[:16]}.zip",
            source=pulumi.FileAsset(str(args.archive.path)),
            opts=child,
        )
        builder = serviceaccount.Account(
            f"{name}-builder", account_id=args.builder, display_name="Builds the functions", opts=child
        )
        role = projects.IAMMember(
            f"{name}-builder-role",
            project=args.project,
            # The role that Google names for building functions as an account of one's own (Cloud Run functions docs).
            role="roles/cloudbuild.builds.builder",
            member=builder.member,
            opts=child,
        )
        self.bucket: pulumi.Output[str] = bucket.name
        self.object: pulumi.Output[str] = archive.name
        self.builder_name: pulumi.Output[str] = builder.name
        self.register_outputs({"bucket": self.bucket, "object": self.object})
        self.ready: Sequence[pulumi.Resource] = (archive, role)


@dataclass(frozen=True, kw_only=True)
class GoogleFunctionArgs:
    """`account` is the service account's id; `events` is the topic of an event function, None for one that is pushed to.

    `network` and subnet are those that the function reaches into, if any.
    """

    project: str
    location: str
    function: str
    entry_point: str
    account: str
    source: GoogleFunctionSource
    environment: Mapping[str, pulumi.Input[str]]
    memory: str
    timeout_seconds: int
    max_instances: int
    events: GoogleTopic | None = None
    # One at a time where every request holds a chunk in memory. More than one needs a whole CPU.
    concurrency: int = 1
    cpu: str | None = None
    # What it reaches there are private addresses only; everything else goes the way of functions without a network.
    network: tuple[pulumi.Input[str], pulumi.Input[str]] | None = None


class GoogleFunction(pulumi.ComponentResource):
    """One handler on Cloud Run functions, reachable from inside the project only; an event function is retried."""

    def __init__(self, name: str, args: GoogleFunctionArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:functions:GoogleFunction", name, None, opts)
        self._name = name
        self._args = args
        child = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            f"{name}-account", account_id=args.account, display_name=f"Runs {args.function}", opts=child
        )
        before: list[pulumi.Resource] = [*args.source.ready]
        trigger: cloudfunctionsv2.FunctionEventTriggerArgsDict | None = None
        if args.events is not None:
            receives = projects.IAMMember(
                f"{name}-receives",
                project=args.project,
                role="roles/eventarc.eventReceiver",
                member=account.member,
                opts=child,
            )
            before.append(receives)
            trigger = {
                "trigger_region": args.location,
                "event_type": "google.cloud.pubsub.topic.v1.messagePublished",
                "pubsub_topic": args.events.topic_id,
                "retry_policy": "RETRY_POLICY_RETRY",
                "service_account_email": account.email,
            }
        service: cloudfunctionsv2.FunctionServiceConfigArgsDict = {
            "available_memory": args.memory,
            "timeout_seconds": args.timeout_seconds,
            "min_instance_count": 0,
            "max_instance_count": args.max_instances,
            "max_instance_request_concurrency": args.concurrency,
            "ingress_settings": "ALLOW_INTERNAL_ONLY",
            "all_traffic_on_latest_revision": True,
            "service_account_email": account.email,
            "environment_variables": dict(args.environment),
        }
        if args.cpu:
            service["available_cpu"] = args.cpu
        if args.network is not None:
            network, subnet = args.network
            service["direct_vpc_network_interfaces"] = [{"network": network, "subnetwork": subnet}]
            service["direct_vpc_egress"] = "VPC_EGRESS_PRIVATE_RANGES_ONLY"
        function = cloudfunctionsv2.Function(
            f"{name}-function",
            name=args.function,
            location=args.location,
            build_config={
                "runtime": RUNTIME,
                "entry_point": args.entry_point,
                "service_account": args.source.builder_name,
                "source": {"storage_source": {"bucket": args.source.bucket, "object": args.source.object}},
            },
            service_config=service,
            event_trigger=trigger,
            opts=pulumi.ResourceOptions(parent=self, depends_on=before),
        )
        self.function: pulumi.Output[str] = function.name
        self.member: pulumi.Output[str] = account.member
        self.email: pulumi.Output[str] = account.email
        self.unique_id: pulumi.Output[str] = account.unique_id
        # The Cloud Run address: the only one that Pub/Sub reaches when ingress is internal.
        self.uri: pulumi.Output[str] = function.service_config.apply(lambda config: (config and config.uri) or "")
        if args.events is not None:
            self.invoked_by("trigger", account.member)
        self.register_outputs({"function": self.function, "uri": self.uri})

    def invoked_by(self, caller: str, member: pulumi.Input[str]) -> None:
        """Let a member call the function; nobody else may."""
        cloudrunv2.ServiceIamMember(
            f"{self._name}-invoker-{caller}",
            project=self._args.project,
            location=self._args.location,
            name=self.function,
            role="roles/run.invoker",
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )
