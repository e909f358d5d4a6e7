"""Resource options for what holds data, in one place, so that no bucket or table is forgotten."""

import pulumi


def holding_data(parent: pulumi.Resource, protect: bool) -> pulumi.ResourceOptions:
    """Return options that keep a resource from being deleted, replaced (a replacement deletes) or dropped with its stack."""
    return pulumi.ResourceOptions(parent=parent, protect=protect, retain_on_delete=protect)
