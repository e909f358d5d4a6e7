"""Order between whole parts. Pulumi's own `depends_on` on a component orders the component alone, not what is in it."""

from collections.abc import Sequence

import pulumi


def after(resources: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
    """Return options that make a component and all that is in it wait for `resources`, and be deleted before them."""
    # The list is the caller's, and may grow.
    waiting = pulumi.ResourceOptions(depends_on=list(resources))

    def wait(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult:
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, waiting))

    return pulumi.ResourceOptions(transformations=[wait])
