"""The functions' libraries as a Lambda layer."""

import pulumi
from pulumi_aws import lambda_

from infra.archives import Archive
from infra.components.aws_function import RUNTIME


class AwsLayer(pulumi.ComponentResource):
    """One layer that all functions share."""

    def __init__(self, name: str, layer: str, archive: Archive, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:functions:AwsLayer", name, None, opts)
        version = lambda_.LayerVersion(
            f"{name}-layer",
            layer_name=layer,
            code=pulumi.FileArchive(str(archive.path)),
            compatible_runtimes=[RUNTIME],
            compatible_architectures=["x86_64"],
            # A version is immutable, and functions of a deployment that failed half-way still name the old one.
            skip_destroy=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.arn: pulumi.Output[str] = version.arn
        self.register_outputs({"arn": self.arn})
