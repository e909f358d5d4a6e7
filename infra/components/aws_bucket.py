"""A private S3 bucket: versioned, encrypted, owned by the account, closed to the public, reached over TLS only."""

from collections.abc import Sequence

import pulumi
from pulumi_aws import s3

from infra.protection import holding_data
from infra.rights import Statement, policy

# An upload that was begun and never completed is billed for and seen by nobody.
ABANDONED_UPLOAD_DAYS = 7


def private_bucket(
    parent: pulumi.Resource,
    name: str,
    bucket_name: str,
    protect: bool,
    rules: Sequence[s3.BucketLifecycleConfigurationRuleArgsDict] = (),
) -> s3.Bucket:
    """Make a private bucket and everything that keeps it so, as children of `parent`; `rules` are more of its lifecycle."""
    child = pulumi.ResourceOptions(parent=parent)
    # Where data is not protected a destroy must leave nothing, or the next stack of that name could not be made.
    bucket = s3.Bucket(
        f"{name}-bucket", bucket=bucket_name, force_destroy=not protect, opts=holding_data(parent, protect)
    )
    s3.BucketVersioning(
        f"{name}-versioning", bucket=bucket.bucket, versioning_configuration={"status": "Enabled"}, opts=child
    )
    s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        bucket=bucket.bucket,
        rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
        opts=child,
    )
    s3.BucketOwnershipControls(
        f"{name}-ownership", bucket=bucket.bucket, rule={"object_ownership": "BucketOwnerEnforced"}, opts=child
    )
    private = s3.BucketPublicAccessBlock(
        f"{name}-private",
        bucket=bucket.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=child,
    )
    s3.BucketPolicy(
        f"{name}-tls-only",
        bucket=bucket.bucket,
        policy=policy(
            Statement(
                effect="Deny",
                principal="*",
                actions=["s3:*"],
                resources=[bucket.arn, pulumi.Output.concat(bucket.arn, "/*")],
                condition={"Bool": {"aws:SecureTransport": "false"}},
            )
        ),
        # Both change the bucket's policy status; at once, S3 answers one of them with a conflict.
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[private]),
    )
    s3.BucketLifecycleConfiguration(
        f"{name}-lifecycle",
        bucket=bucket.bucket,
        rules=[
            {
                "id": "abandoned-uploads",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "abort_incomplete_multipart_upload": {"days_after_initiation": ABANDONED_UPLOAD_DAYS},
            },
            *rules,
        ],
        opts=child,
    )
    return bucket
