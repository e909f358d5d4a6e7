"""What all functions of a stack share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from functions.settings import Site
from infra.archives import Archive
from infra.components.google_function import GoogleFunctionSource
from infra.components.google_topic import LONGEST_BACKOFF_SECONDS

# As AWS advises for queues that feed functions (Lambda developer guide, SQS): a batch may be retried by Lambda itself.
VISIBILITY_FACTOR = 6


@dataclass(frozen=True)
class FunctionSettings:
    """What every function shares: archive, libraries and environment by site, and the cap on time limits (0: none)."""

    aws_archive: Archive
    layers: Sequence[pulumi.Input[str]]
    source: GoogleFunctionSource
    environment: Mapping[Site, Mapping[str, str]]
    redelivery_seconds: int

    def timeout_seconds(self, wanted: int) -> int:
        """Return a time limit that ends before its message is delivered again."""
        return min(wanted, self.redelivery_seconds) if self.redelivery_seconds else wanted

    @property
    def backoff_seconds(self) -> int:
        """Return the longest pause between two deliveries of a message that is pushed."""
        return self.redelivery_seconds or LONGEST_BACKOFF_SECONDS

    def visibility_seconds(self, timeout_seconds: int) -> int:
        """Return how long a delivered message stays hidden."""
        return self.redelivery_seconds or VISIBILITY_FACTOR * timeout_seconds
