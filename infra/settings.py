"""What a stack's config may say, as frozen types; nothing here reads it, and nothing here knows Pulumi.

Every description states the allowed values, because a refused value is answered with it (infra/config.py).
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from functions.settings import BYTES_PER_SECOND_RANGE, Site


class Mode(StrEnum):
    """Whether one site serves or both."""

    ACTIVE_PASSIVE = "active-passive"
    ACTIVE_ACTIVE = "active-active"


class Lost(StrEnum):
    """Which site's resources stay as last deployed; AUTO asks both control planes."""

    AUTO = "auto"
    NONE = "none"
    AWS = "aws"
    GCP = "gcp"


class Scheme(StrEnum):
    """How the public name and the sites are reached."""

    HTTP = "http"
    HTTPS = "https"

    @property
    def port(self) -> int:
        """Return the scheme's port, as RFC 9110 registers it."""
        return 443 if self is Scheme.HTTPS else 80


class FunctionDependencies(StrEnum):
    """Where a Lambda function finds its libraries."""

    LAYER = "layer"
    HOST = "host"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


# Service accounts of Google take 6 to 30 characters and Bigtable instances 6 to 33; the longest purpose adds 8.
Prefix = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9-]{4,18}[a-z0-9]$",
        description="6 to 20 lower-case letters, digits and hyphens, a letter first",
    ),
]
Hostname = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9-]{1,63}\.)+[a-z]{2,63}$",
        description="a full host name in lower case, such as recommend.example.com",
    ),
]
HexadecimalId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="32 hexadecimal digits")]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="1 to 63 lower-case letters, digits and hyphens, a letter first",
    ),
]
NumericId = Annotated[str, Field(pattern=r"^[0-9]{12}$", description="12 digits, in quotes")]
NetworkRange = Annotated[
    str,
    Field(
        pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}/16$",
        description="an IPv4 range of 16 bits, such as 10.20.0.0/16",
    ),
]
MachineImage = Annotated[
    str, Field(pattern=r"^ami-[0-9a-f]{8,17}$", description="an AMI id, such as ami-0123456789abcdef0")
]
ContainerImage = Annotated[str, Field(pattern=r"^\S+$", description="a container image with its tag")]
RequestPath = Annotated[str, Field(pattern=r"^/\S*$", description="a path that begins with /")]
Text = Annotated[str, Field(pattern=r"^\S+$", description="text without spaces")]
OptionalText = Annotated[str, Field(pattern=r"^\S*$", description="text without spaces, or empty")]
Hosts = Annotated[int, Field(ge=1, le=500, description="1 to 500 hosts")]


class AwsSite(_Part):
    """The side on AWS: account, place and what its hosts are made of."""

    account_id: NumericId
    region: Name
    zones: tuple[Name, ...] = Field(min_length=2, description="at least two zones of the region, as its balancer needs")
    # Pinned, never looked up: a moving image would replace a fleet in the middle of a failover.
    image_id: MachineImage
    instance_type: Text
    network_range: NetworkRange = "10.20.0.0/16"
    certificate_arn: OptionalText = ""
    capacity_reservation_id: OptionalText = ""
    redis_node_type: Text = "cache.t4g.small"


class DataflowWorkers(_Part):
    """The job that tells changes of the features: the release of Google's template, and what it runs on.

    `template_version` is a folder of the public template bucket: `latest`, or a dated one for a job that must not move.
    One worker of two CPUs reads far more changes than one Bigtable node takes writes.
    """

    template_version: Annotated[
        str, Field(pattern=r"^[\w.-]+$", description="latest, or a dated folder of templates")
    ] = "latest"
    machine_type: Text = "n2-standard-2"
    count: int = Field(default=1, ge=1, le=100, description="1 to 100 workers")
    limit: int = Field(default=4, ge=1, le=1000, description="1 to 1000 workers")


class GoogleSite(_Part):
    """The side on Google Cloud: project, place and what its hosts are made of."""

    project: Name
    project_number: NumericId
    region: Name
    zones: tuple[Name, ...] = Field(min_length=1, description="at least one zone of the region")
    image: Text
    machine_type: Text
    network_range: NetworkRange = "10.30.0.0/16"
    certificate: OptionalText = ""
    reservation: OptionalText = ""
    dataflow: DataflowWorkers = DataflowWorkers()
    bigtable_nodes: int = Field(default=1, ge=1, le=100, description="1 to 100 nodes")
    redis_node_type: Text = "STANDARD_SMALL"


class Sites(_Part):
    """Both sides, keyed by site."""

    aws: AwsSite
    gcp: GoogleSite


class FleetSizes(_Part):
    """Hosts of one site in each role."""

    active: Hosts
    standby: Hosts


class Fleets(_Part):
    """Fleet sizes, keyed by site."""

    aws: FleetSizes
    gcp: FleetSizes

    def of(self, site: Site) -> FleetSizes:
        """Return the sizes of a site's fleet."""
        return self.aws if site is Site.AWS else self.gcp


class Objectives(_Part):
    """What a failover is held to."""

    rto_seconds: int = Field(ge=1, le=86_400, description="1 to 86400 seconds")
    feature_lag_ms: int = Field(ge=1, le=3_600_000, description="1 to 3600000 milliseconds")


class ServiceImages(_Part):
    """The service's container image, keyed by site."""

    aws: ContainerImage
    gcp: ContainerImage


class GoldenRequest(_Part):
    """A request whose success proves that the service serves."""

    path: RequestPath
    body: dict[str, Any] = Field(description="a JSON object")


class ThirdCopyKeys(_Part):
    """Which secret on each site's cloud holds the access key of the third copy on R2."""

    aws: Annotated[
        str,
        Field(
            pattern=r"^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:\S+$",
            description="the full ARN of a secret in Secrets Manager",
        ),
    ]
    gcp: Annotated[
        str,
        Field(
            pattern=r"^projects/[^/\s]+/secrets/[^/\s]+/versions/[^/\s]+$",
            description="projects/<project>/secrets/<secret>/versions/<version or latest>",
        ),
    ]


class Retention(_Part):
    """Which versions of a model stay whatever else; without it nothing is ever deleted."""

    keep_versions: int = Field(ge=1, le=100_000, description="1 to 100000 versions")
    keep_days: int = Field(ge=1, le=100_000, description="1 to 100000 days")


class FeastTable(_Part):
    """A table of Feast's DynamoDB online store that is replicated, and the feature view that it holds."""

    stream_arn: Annotated[
        str,
        Field(
            pattern=r"^arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:\d{12}:table/[\w.-]+/stream/\S+$",
            description="the ARN of the table's stream of new and old images",
        ),
    ]
    project: Text
    view: Text
    entities: tuple[Text, ...] = Field(description="names of the view's entities")
    features: tuple[Text, ...] = Field(min_length=1, description="names of the view's features")

    @property
    def table_arn(self) -> str:
        """Return the ARN of the table."""
        return self.stream_arn.partition("/stream/")[0]


class Alarms(_Part):
    """When a site raises an alarm about its artifacts, and who is told; without a receiver it only shows in the cloud's console.

    One finding of an audit is damage to a version, so the default is one. 100 GB an hour are about 9 dollars of egress, and more
    than a fine-tune of a model of 140 GB sends (docs/artifacts.md): above it something goes in circles.
    """

    audit_findings: int = Field(default=1, ge=1, le=1_000_000, description="1 to 1000000 findings of one audit")
    egress_bytes_per_hour: int = Field(
        default=100_000_000_000, ge=1_000_000, le=10**15, description="1000000 to 1000000000000000 bytes an hour"
    )
    aws_topic: Annotated[
        str, Field(pattern=r"^(arn:aws[a-z-]*:sns:\S+)?$", description="the ARN of an SNS topic, or empty")
    ] = ""
    google_channel: Annotated[
        str,
        Field(
            pattern=r"^(projects/[^/\s]+/notificationChannels/\d+)?$",
            description="projects/<project>/notificationChannels/<number>, or empty",
        ),
    ] = ""


class Settings(_Part):
    """A stack's whole config."""

    active: Site
    mode: Mode
    lost: Lost
    prefix: Prefix
    hostname: Hostname
    public_scheme: Scheme
    cloudflare_account_id: HexadecimalId
    cloudflare_zone_id: HexadecimalId
    sites: Sites
    fleets: Fleets
    objectives: Objectives
    model: Name
    service_images: ServiceImages
    protect_data: bool = Field(description="true or false")
    monitor_seconds: int = Field(ge=1, le=3600, description="1 to 3600 seconds")
    gate_seconds: int = Field(ge=1, le=3600, description="1 to 3600 seconds")
    gate_override: str = Field(description="a reason in words, or empty")
    golden_request: GoldenRequest
    redelivery_seconds: int = Field(ge=0, le=3600, description="0 to 3600 seconds")
    function_dependencies: FunctionDependencies
    third_copy_keys: ThirdCopyKeys | None = None
    signing_key_generations: int = Field(
        default=1, ge=1, le=20, description="1 to 20 keys of each site, the last one signs"
    )
    retention: Retention | None = None
    artifact_bytes_per_second: int = Field(
        default=0, ge=0, le=BYTES_PER_SECOND_RANGE[1], description="0, or 1000000 to 10000000000 bytes a second"
    )
    alarms: Alarms = Alarms()
    user_data: bool = Field(default=False, description="true or false")
    bridge: bool = Field(default=False, description="true or false")
    redis_source: bool = Field(default=False, description="true or false")
    feast_tables: dict[str, FeastTable] = Field(
        default={}, description="Feast's DynamoDB tables by name, each {streamArn, project, view, entities, features}"
    )

    @field_validator("third_copy_keys", "retention", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        # Pulumi demands a value or a default for every key, and knows no default for "none".
        return None if value == {} else value

    def conflicts(self) -> list[str]:
        """Return what is wrong between values that are each allowed: one line a conflict, empty when there is none."""
        found = []
        for site in Site:
            sizes = self.fleets.of(site)
            if sizes.standby > sizes.active:
                found.append(
                    f"lifeboat:fleets {site}: standby {sizes.standby} is above active {sizes.active};"
                    f" allowed: a standby of 1 to {sizes.active}"
                )
        if 0 < self.artifact_bytes_per_second < BYTES_PER_SECOND_RANGE[0]:
            found.append(
                f"lifeboat:artifactBytesPerSecond {self.artifact_bytes_per_second} would make one chunk outlast its function;"
                f" allowed: 0 for no limit, or {BYTES_PER_SECOND_RANGE[0]} or more"
            )
        for name, table in self.feast_tables.items():
            if table.table_arn.rpartition("/")[2] != name:
                found.append(
                    f"lifeboat:feastTables {name}: streamArn is of table {table.table_arn.rpartition('/')[2]};"
                    " allowed: the stream of the table that the entry is named after"
                )
        workers = self.sites.gcp.dataflow
        if workers.limit < workers.count:
            found.append(
                f"lifeboat:sites gcp.dataflow: limit {workers.limit} is below count {workers.count};"
                f" allowed: a limit of {workers.count} or more"
            )
        if self.public_scheme is Scheme.HTTPS:
            for key, value in (
                ("aws.certificateArn", self.sites.aws.certificate_arn),
                ("gcp.certificate", self.sites.gcp.certificate),
            ):
                if not value:
                    found.append(
                        f"lifeboat:sites {key} is empty, which lifeboat:publicScheme https does not allow;"
                        " give the certificate for the public name"
                    )
        return found
