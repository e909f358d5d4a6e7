"""The end of the third copy: R2 deletes no bucket that holds objects, so something has to empty it before."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import lambda_

from functions.settings import Site
from infra.components.artifact_store import EdgeArtifactStore
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.function_settings import FunctionSettings
from infra.naming import Names
from infra.protection import holding_data
from infra.rights import Statement
from infra.settings import ThirdCopyKeys

# Lambda's longest: a thousand objects go in one call.
SECONDS = 900
MEMORY_MB = 512


@dataclass(frozen=True, kw_only=True)
class ThirdCopyDisposalArgs:
    """`keys` open the bucket of `store`; `protect` refuses to delete what would empty it."""

    names: Names
    store: EdgeArtifactStore
    keys: ThirdCopyKeys
    shared: FunctionSettings
    protect: bool


class ThirdCopyDisposal(pulumi.ComponentResource):
    """Empties the bucket when the stack is destroyed, or has no third copy any more.

    A function that is called when its own call is deleted (`lifecycle_scope` of the provider); where data is
    protected, so is that call. Whatever writes to the bucket must depend on this component, so that it is gone by then.
    """

    def __init__(self, name: str, args: ThirdCopyDisposalArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:artifacts:ThirdCopyDisposal", name, None, opts)
        function = AwsFunction(
            f"{name}-empties",
            AwsFunctionArgs(
                function=args.names.named("third-copy-disposal"),
                handler="functions.entry_aws.third_copy_disposal",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment=args.shared.environment[Site.AWS],
                rights=[Statement(actions=["secretsmanager:GetSecretValue"], resources=[args.keys.aws])],
                memory_mb=MEMORY_MB,
                timeout_seconds=args.shared.timeout_seconds(SECONDS),
            ),
            pulumi.ResourceOptions(parent=self),
        )
        after = pulumi.ResourceOptions(depends_on=[function, args.store])
        call = lambda_.Invocation(
            f"{name}-at-the-end",
            function_name=function.function,
            input="{}",
            lifecycle_scope="CRUD",
            opts=pulumi.ResourceOptions.merge(holding_data(self, args.protect), after),
        )
        self.register_outputs({"call": call.id})
