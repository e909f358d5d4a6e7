"""Policy documents for AWS, from statements that name actions and resources one by one.

It refuses wildcards where a wildcard would be a right nobody meant: an action with `*` or every resource at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

VERSION = "2012-10-17"  # the policy language's current version (IAM user guide, reference_policies_elements_version)

# Actions for which AWS knows no narrower resource (service authorization reference).
UNSCOPED_ACTIONS = frozenset(
    {
        "ecr:GetAuthorizationToken",
        # What Lambda does as a function's role to put it into a network: describing takes no resource, and the interfaces that
        # the others are about have no name before (Lambda developer guide, configuration-vpc).
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DeleteNetworkInterface",
    }
)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One permission: who may do what with which things."""

    actions: Sequence[str]
    resources: Sequence[pulumi.Input[str]] = ()
    effect: str = "Allow"
    principal: Mapping[str, pulumi.Input[str]] | str | None = None
    condition: Mapping[str, Mapping[str, pulumi.Input[Any]]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the statement as the policy language writes it. Raises ValueError for a right that is too wide."""
        unscoped = set(self.actions) - UNSCOPED_ACTIONS
        if self.effect == "Allow" and any("*" in action for action in self.actions):
            raise ValueError(f"the actions {list(self.actions)} hold a wildcard; name each one")
        if self.effect == "Allow" and "*" in [r for r in self.resources if isinstance(r, str)] and unscoped:
            raise ValueError(f"{sorted(unscoped)} would be allowed on every resource; name the resources")
        document: dict[str, Any] = {"Effect": self.effect, "Action": list(self.actions)}
        if self.resources:
            document["Resource"] = list(self.resources)
        if self.principal is not None:
            document["Principal"] = self.principal
        if self.condition:
            document["Condition"] = self.condition
        return document


def policy(*statements: Statement) -> pulumi.Output[str]:
    """Return a policy document in JSON with stable key order, so that the same rights never show as a change."""
    return pulumi.Output.json_dumps(
        {"Version": VERSION, "Statement": [statement.document() for statement in statements]}, sort_keys=True
    )


def assumed_by(service: str) -> pulumi.Output[str]:
    """Return the trust policy of a role that an AWS service takes, such as lambda.amazonaws.com."""
    return policy(Statement(actions=["sts:AssumeRole"], principal={"Service": service}))
