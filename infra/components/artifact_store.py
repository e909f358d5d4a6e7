"""Artifact stores: immutable model versions, their manifests and aliases, one bucket a site and a third copy's bucket.

Events leave a store for manifests, aliases and what is left in the inbox, never for packs or model files: a manifest is written
last, so its event says that everything it names is there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import s3
from pulumi_gcp import storage

from infra import edge
from infra.components.artifact_access import Access
from infra.components.aws_bucket import ABANDONED_UPLOAD_DAYS, private_bucket
from infra.components.aws_queue import AwsQueue
from infra.components.google_topic import GoogleTopic
from infra.naming import ALIASES, INBOX, INBOX_DONE, MANIFESTS, TRANSIENT
from infra.protection import holding_data
from infra.rights import Statement

# Longer than the queues keep a message: while one can still come, what it needs stays.
LEFTOVER_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class AwsArtifactStoreArgs:
    """`events` receives what happens to manifests and aliases, `inbox` what has been left there whole."""

    bucket: str
    events: AwsQueue
    inbox: AwsQueue
    protect: bool


class AwsArtifactStore(pulumi.ComponentResource):
    """An S3 bucket: versioned, encrypted, private, reached over TLS only, with events to a queue."""

    def __init__(self, name: str, args: AwsArtifactStoreArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:artifacts:AwsArtifactStore", name, None, opts)
        bucket = private_bucket(
            self,
            name,
            args.bucket,
            args.protect,
            rules=[
                {
                    "id": f"leftovers-{prefix.strip('/')}",
                    "status": "Enabled",
                    "filter": {"prefix": prefix},
                    # What a transfer that broke off for good has left.
                    "expiration": {"days": LEFTOVER_DAYS},
                    # What a finished one deleted: versioning would keep every chunk of every model a second time.
                    "noncurrent_version_expiration": {"noncurrent_days": 1},
                }
                for prefix in TRANSIENT
            ],
        )
        queues: list[s3.BucketNotificationQueueArgsDict] = [
            {
                "id": prefix.strip("/"),
                "queue_arn": args.events.arn,
                "events": ["s3:ObjectCreated:*"],
                "filter_prefix": prefix,
            }
            for prefix in (MANIFESTS, ALIASES)
        ]
        queues.append(
            {
                "id": INBOX.strip("/"),
                "queue_arn": args.inbox.arn,
                "events": ["s3:ObjectCreated:*"],
                "filter_prefix": INBOX,
                "filter_suffix": INBOX_DONE,
            }
        )
        s3.BucketNotification(
            f"{name}-events",
            bucket=bucket.bucket,
            queues=queues,
            # S3 sends a test message when the notification is set and refuses it if the queue's policy is not there yet.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.events, args.inbox]),
        )
        self.bucket: pulumi.Output[str] = bucket.bucket
        self.arn: pulumi.Output[str] = bucket.arn
        self.register_outputs({"bucket": self.bucket, "arn": self.arn})

    def rights(self, access: Access) -> Sequence[Statement]:
        """Return a step's rights on this bucket."""
        # A write under a condition on what stands there needs the right to read it.
        wanted = (
            (["s3:GetObject"], [*access.reads, *access.writes]),
            (["s3:PutObject", "s3:AbortMultipartUpload"], access.writes),
            (["s3:DeleteObject"], access.deletes),
        )
        found = [
            Statement(actions=actions, resources=[pulumi.Output.concat(self.arn, f"/{prefix}*") for prefix in prefixes])
            for actions, prefixes in wanted
            if prefixes
        ]
        return [*found, Statement(actions=["s3:ListBucket"], resources=[self.arn])] if access.lists else found


@dataclass(frozen=True, kw_only=True)
class GoogleArtifactStoreArgs:
    """`events` receives what happens to manifests and aliases, `inbox` what is left there, file by file."""

    bucket: str
    location: str
    events: GoogleTopic
    inbox: GoogleTopic
    protect: bool


class GoogleArtifactStore(pulumi.ComponentResource):
    """A Cloud Storage bucket: versioned, private by prevention, rights by IAM only, with events to a topic."""

    def __init__(self, name: str, args: GoogleArtifactStoreArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:artifacts:GoogleArtifactStore", name, None, opts)
        bucket = storage.Bucket(
            f"{name}-bucket",
            name=args.bucket,
            location=args.location.upper(),
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning={"enabled": True},
            lifecycle_rules=[
                {
                    "action": {"type": "AbortIncompleteMultipartUpload"},
                    "condition": {"age": ABANDONED_UPLOAD_DAYS},
                },
                # What a transfer that broke off for good has left.
                {
                    "action": {"type": "Delete"},
                    "condition": {"age": LEFTOVER_DAYS, "matches_prefixes": list(TRANSIENT), "with_state": "LIVE"},
                },
                # What a finished transfer deleted: versioning would keep every chunk of every model a second time.
                {
                    "action": {"type": "Delete"},
                    "condition": {
                        "days_since_noncurrent_time": 1,
                        "matches_prefixes": list(TRANSIENT),
                        "with_state": "ARCHIVED",
                    },
                },
            ],
            force_destroy=not args.protect,
            opts=holding_data(self, args.protect),
        )
        # A prefix is all that Storage filters by, so every file left in the inbox is told of.
        for prefix, topic in ((MANIFESTS, args.events), (ALIASES, args.events), (INBOX, args.inbox)):
            storage.Notification(
                f"{name}-events-{prefix.strip('/')}",
                bucket=bucket.name,
                topic=topic.topic_id,
                payload_format="JSON_API_V1",
                event_types=["OBJECT_FINALIZE"],
                object_name_prefix=prefix,
                # Storage checks when the notification is made that its service agent may publish.
                opts=pulumi.ResourceOptions(parent=self, depends_on=[topic]),
            )
        self._name = args.bucket
        self.bucket: pulumi.Output[str] = bucket.name
        self.register_outputs({"bucket": self.bucket})

    def grant(self, name: str, member: pulumi.Input[str], role: str, prefixes: Sequence[str]) -> None:
        """Give a role on the objects whose names begin with one of the prefixes."""
        paths = (json.dumps(f"projects/_/buckets/{self._name}/objects/{prefix}") for prefix in prefixes)
        storage.BucketIAMMember(
            name,
            bucket=self.bucket,
            role=role,
            member=member,
            condition={
                "title": "prefixes",
                "expression": " || ".join(f"resource.name.startsWith({path})" for path in paths),
            },
            opts=pulumi.ResourceOptions(parent=self),
        )

    def grant_list(self, name: str, member: pulumi.Input[str]) -> None:
        """Let a member list the bucket, which also turns "forbidden" for a missing object into "not found".

        Listing is a right on the bucket: no condition on object names can be put on it.
        """
        storage.BucketIAMMember(
            name,
            bucket=self.bucket,
            role="roles/storage.legacyBucketReader",
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )


@dataclass(frozen=True, kw_only=True)
class EdgeArtifactStoreArgs:
    """The third copy's bucket, in the front door's account."""

    account_id: str
    bucket: str
    protect: bool


class EdgeArtifactStore(pulumi.ComponentResource):
    """An R2 bucket that the loss of either site does not reach; R2 encrypts at rest and is private unless published."""

    def __init__(self, name: str, args: EdgeArtifactStoreArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:artifacts:EdgeArtifactStore", name, None, opts)
        edge.bucket(
            f"{name}-bucket",
            edge.Bucket(account_id=args.account_id, name=args.bucket),
            holding_data(self, args.protect),
        )
        self.register_outputs({"bucket": args.bucket})
