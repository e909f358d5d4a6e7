"""What a demo run measured: the shape of demo.json. Parts that a run does not have are left out, never filled in."""

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Base of all parts: frozen, and nothing unknown slips in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Engine(Part):
    """The Pulumi engine's share: how many resources, how long, and that a second `up` changes nothing."""

    version: str
    resources: int
    up_seconds: float
    second_up_changes: int
    second_up_seconds: float
    flip_seconds: float


class CodecShare(Part):
    """What one rung of the codec ladder did for a version: bytes of its files, and bytes that crossed for them."""

    codec: str
    bytes_raw: int
    bytes_wire: int


class Artifact(Part):
    """One model version on its way to the other site; `copies` says for each store whether its copy was proven at the end."""

    model: str
    version: str
    parent: str | None
    kind: str
    origin: str
    bytes_raw: int
    bytes_wire: int
    ratio: float
    seconds: float
    verified: bool
    copies: dict[str, bool] = {}
    codecs: list[CodecShare] = []


class Quantiles(Part):
    """Median and 99th percentile of a figure in milliseconds."""

    p50: float
    p99: float


class TwoWays(Part):
    """Data that travels both ways: how long a write took to the other side, while both were there."""

    lag_ms: Quantiles = Field(description="from AWS to Google Cloud")
    lag_back_ms: Quantiles = Field(description="from Google Cloud to AWS")


class Features(TwoWays):
    """Live rows: how many were written, how many were compared at the end, and how many of them differ."""

    written: int
    divergent: int
    rows_compared: int


class Sessions(TwoWays):
    """Sessions: how many were opened and saved, and how many went on at the other site at once with the token they had."""

    opened: int
    saved: int
    moved: int
    refused: int
    open_at_loss: int
    went_on: int = Field(
        description="of those open when a site was lost, how many the other one took up where they were"
    )


class UserData(TwoWays):
    """Users and orders in Aurora and Spanner, as `Features` says it of features."""

    written: int
    divergent: int
    rows_compared: int


class Bridge(TwoWays):
    """Messages between the clouds: sent by both, received at the other end; `repeated` came out more than once."""

    sent: int
    received: int
    repeated: int


class SideParity(Part):
    """One side of a store at the end."""

    rows: int
    tombstones: int
    digest: str
    lag_ms: int | None
    parked: int | None


class Parity(Part):
    """A store's proof at the end, as `verify` gives it; `equal` is None if `skipped` says why."""

    store: str
    equal: bool | None
    differing: int
    sides: dict[str, SideParity]
    skipped: str


class Step(Part):
    """A named stretch of a failover."""

    name: str
    seconds: float


class FailureReason(Part):
    """Failed requests of one kind, and why they failed."""

    reason: str
    count: int


class Requests(Part):
    """Requests through the front door's public name; `rescued` ones failed at one site and were answered by the other."""

    sent: int
    failed: int
    rescued: int
    explained: list[FailureReason]


class Failover(Part):
    """A change of the active site, from its trigger until it was proven through the public name."""

    trigger: str
    rto_seconds: float
    steps: list[Step]
    requests: Requests
    rpo: dict[str, float] = Field(description="seconds of writes that the new side lacked at the loss, by store")
    unreplicated_writes: int = Field(
        description="writes acknowledged by the lost side and not yet on the other one at the loss"
    )
    lost_writes: int = Field(description="acknowledged writes missing on the new side after the lost one came back")


class ServiceFigures(Part):
    """What one host of a site measured of itself."""

    site: str
    inference_ms: Quantiles
    feature_read_ms: Quantiles
    model_load_seconds: float
    fleet_asked: int
    fleet_running: int


class Host(Part):
    """The machine the run was on."""

    cpu: str
    cores: int
    memory: str


class Ground(Part):
    """What stood in for the clouds where it matters for reading the figures."""

    dynamodb: str


class Demo(Part):
    """Everything in demo.json."""

    engine: Engine
    artifacts: list[Artifact]
    features: Features
    sessions: Sessions
    userdata: UserData | None = Field(
        description="None where this machine can't run user data, which `parity` then says"
    )
    bridge: Bridge
    parity: list[Parity]
    failover: Failover
    flip: Failover
    service: list[ServiceFigures]
    ground: Ground
    host: Host
    seconds: float
    passed: bool
    checks: dict[str, bool]


class RequestSecond(Part):
    """Requests that ended in one second of the timeline, by the site that answered, or failed."""

    second: int
    aws: int
    gcp: int
    failed: int


class Mark(Part):
    """An instant worth a line in the timeline."""

    second: float
    label: str


class LagSample(Part):
    """One feature row's way: when it was written and after how long the other site could read it."""

    second: float
    lag_ms: float


class Timeline(Part):
    """What the pictures are drawn from; seconds count from the start of the traffic."""

    requests: list[RequestSecond]
    marks: list[Mark]
    lag: list[LagSample]
    lag_back: list[LagSample]
