"""The only maker of providers: one for each site and one for the edge; no resource may use a default one.

None of them may need its cloud to be configured: every provider is configured in every run, also in a failover while its
cloud is dead. So the AWS provider skips every look-up, and credentials come from the environment, never from here: what
is set here is written to the state and would be stale when it is needed most.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws
import pulumi_gcp

from infra import edge
from infra.settings import Settings

# The provider's own default is 25 with growing pauses: minutes, spent on a cloud that is down.
AWS_RETRIES = 3


@dataclass(frozen=True)
class Providers:
    """Where a resource is made."""

    aws: pulumi_aws.Provider
    gcp: pulumi_gcp.Provider
    edge: pulumi.ProviderResource


def providers(settings: Settings, marks: Mapping[str, str]) -> Providers:
    """Make the stack's providers; `marks` become tags and labels of everything that takes them."""
    aws, gcp = settings.sites.aws, settings.sites.gcp
    return Providers(
        aws=pulumi_aws.Provider(
            "site-aws",
            region=aws.region,
            skip_credentials_validation=True,
            skip_requesting_account_id=True,
            skip_metadata_api_check=True,
            skip_region_validation=True,
            max_retries=AWS_RETRIES,
            default_tags={"tags": dict(marks)},
        ),
        gcp=pulumi_gcp.Provider(
            "site-gcp",
            project=gcp.project,
            region=gcp.region,
            default_labels=dict(marks),
            add_pulumi_attribution_label=False,
        ),
        edge=edge.provider("edge"),
    )
