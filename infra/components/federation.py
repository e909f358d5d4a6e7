"""Identity across the clouds without keys: AWS roles come into Google by a pool, one Google account into AWS by a role."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import iam as aws_iam
from pulumi_gcp import iam as google_iam

from functions.settings import AWS_ROLE_AUDIENCE
from infra.naming import IDENTITY_PROVIDER, Names
from infra.rights import Statement, policy

ROLE_OF_SESSION = "assertion.arn.extract('assumed-role/{role}/')"


@dataclass(frozen=True, kw_only=True)
class GooglePoolArgs:
    """`roles` are the AWS roles, by name, that may come in."""

    names: Names
    roles: Sequence[str]


class GooglePool(pulumi.ComponentResource):
    """A workload identity pool that admits the named roles of one AWS account and nobody else."""

    def __init__(self, name: str, args: GooglePoolArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:identity:GooglePool", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        pool = google_iam.WorkloadIdentityPool(
            f"{name}-pool",
            workload_identity_pool_id=args.names.named("aws"),
            display_name="Functions on AWS",
            opts=child,
        )
        allowed = ", ".join(f"'{role}'" for role in sorted(args.roles))
        google_iam.WorkloadIdentityPoolProvider(
            f"{name}-provider",
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=IDENTITY_PROVIDER,
            aws={"account_id": args.names.aws_account},
            # The role alone is the subject: with a session's name in it, it could pass the limit of 127 characters.
            attribute_mapping={"google.subject": ROLE_OF_SESSION, "attribute.aws_role": ROLE_OF_SESSION},
            attribute_condition=f"attribute.aws_role in [{allowed}]",
            opts=child,
        )
        self.pool: pulumi.Output[str] = pool.workload_identity_pool_id
        self.register_outputs({"pool": self.pool})


def google_credentials(names: Names) -> str:
    """Return the external account file that lets an AWS role act on Google (google.aip.dev/auth/4117), as JSON text."""
    return json.dumps(
        {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{names.identity_pool}/providers/{IDENTITY_PROVIDER}",
            "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {
                "environment_id": "aws1",
                "regional_cred_verification_url": (
                    "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
                ),
            },
        },
        sort_keys=True,
    )


@dataclass(frozen=True, kw_only=True)
class AwsRoleForGoogleArgs:
    """`account_id` is the numeric id of the Google service account that may take the role."""

    role: str
    account_id: pulumi.Input[str]
    rights: Sequence[Statement]


class AwsRoleForGoogle(pulumi.ComponentResource):
    """A role that one Google service account takes with a token that Google signs for it."""

    def __init__(self, name: str, args: AwsRoleForGoogleArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:identity:AwsRoleForGoogle", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        role = aws_iam.Role(
            f"{name}-role",
            name=args.role,
            assume_role_policy=policy(
                Statement(
                    principal={"Federated": "accounts.google.com"},
                    actions=["sts:AssumeRoleWithWebIdentity"],
                    # For service accounts AWS reads `aud` from the token's azp and `oaud` from its aud: pin all three.
                    condition={
                        "StringEquals": {
                            "accounts.google.com:aud": args.account_id,
                            "accounts.google.com:oaud": AWS_ROLE_AUDIENCE,
                            "accounts.google.com:sub": args.account_id,
                        }
                    },
                )
            ),
            opts=child,
        )
        aws_iam.RolePolicy(f"{name}-rights", name="rights", role=role.name, policy=policy(*args.rights), opts=child)
        self.arn: pulumi.Output[str] = role.arn
        self.register_outputs({"arn": self.arn})
