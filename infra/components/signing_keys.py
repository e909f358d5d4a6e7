"""Signing keys of both sites: private halves that never leave the clouds' key services, public halves that every function knows.

Neither cloud's provider tells a key's public half as a resource's output, and a look-up on every deployment would fail while a
cloud is lost. So a small function reads the public halves when the keys are made, and its answer stays in the stack's state: it
is asked again only when there are other keys.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_aws import kms, lambda_
from pulumi_gcp import kms as google_kms

from functions.settings import Site
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.function_settings import FunctionSettings
from infra.naming import Names
from infra.protection import holding_data
from infra.rights import Statement

READER = "signing-keys"
READER_SECONDS = 30
READER_MEMORY_MB = 256
# KMS's longest: what such a key has signed stays good, but nothing can be signed with it ever again.
DELETION_DAYS = 30
ALGORITHM = "EC_SIGN_P256_SHA256"


@dataclass(frozen=True, kw_only=True)
class SigningKeysArgs:
    """`generations`: how many keys each site has had; the newest signs, all are trusted."""

    names: Names
    location: str
    generations: int
    shared: FunctionSettings
    protect: bool


class SigningKeys(pulumi.ComponentResource):
    """Keys of both sites and the trust in them."""

    def __init__(self, name: str, args: SigningKeysArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:artifacts:SigningKeys", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        self._aws = [self._aws_key(number) for number in range(1, args.generations + 1)]
        self._google_key, self._versions = self._google_keys()
        newest = self._aws[-1]
        alias = kms.Alias(
            f"{name}-alias",
            name=f"alias/{args.names.named('artifacts')}",
            target_key_id=newest.key_id,
            opts=self._child,
        )
        # What a function is told of its own site's key.
        self.references: Mapping[Site, pulumi.Output[str]] = {
            Site.AWS: alias.name,
            Site.GCP: self._versions[-1].name,
        }
        # The public halves by site, as functions read them.
        self.public: pulumi.Output[str] = self._read()
        self.register_outputs({"public": self.public})

    def aws_signer(self) -> Statement:
        """Return the right to sign for AWS."""
        return Statement(actions=["kms:Sign", "kms:GetPublicKey"], resources=[self._aws[-1].arn])

    def google_signer(self, name: str, member: pulumi.Input[str]) -> None:
        """Let a member sign for Google."""
        self._grant(name, member, "roles/cloudkms.signerVerifier")

    def _aws_key(self, number: int) -> kms.Key:
        return kms.Key(
            f"{self._name}-aws-{number}",
            description=f"Signs model versions of {self._args.names.prefix}, generation {number}",
            key_usage="SIGN_VERIFY",
            customer_master_key_spec="ECC_NIST_P256",
            deletion_window_in_days=DELETION_DAYS,
            opts=holding_data(self, self._args.protect),
        )

    def _google_keys(self) -> tuple[google_kms.CryptoKey, list[google_kms.CryptoKeyVersion]]:
        args, name = self._args, self._name
        ring = google_kms.KeyRing(
            f"{name}-ring", name=args.names.named("artifacts"), location=args.location, opts=self._child
        )
        key = google_kms.CryptoKey(
            f"{name}-gcp",
            name="manifests",
            key_ring=ring.id,
            purpose="ASYMMETRIC_SIGN",
            version_template={"algorithm": ALGORITHM, "protection_level": "SOFTWARE"},
            # Versions are resources of their own, or the first one would be nobody's.
            skip_initial_version_creation=True,
            opts=holding_data(self, args.protect),
        )
        versions = [
            google_kms.CryptoKeyVersion(
                f"{name}-gcp-{number}", crypto_key=key.id, opts=holding_data(self, args.protect)
            )
            for number in range(1, args.generations + 1)
        ]
        return key, versions

    def _read(self) -> pulumi.Output[str]:
        args, name = self._args, self._name
        function = args.names.named(READER)
        reader = AwsFunction(
            f"{name}-reader",
            AwsFunctionArgs(
                function=function,
                handler="functions.entry_aws.signing_keys",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment=args.shared.environment[Site.AWS],
                rights=[Statement(actions=["kms:GetPublicKey"], resources=[key.arn for key in self._aws])],
                memory_mb=READER_MEMORY_MB,
                timeout_seconds=READER_SECONDS,
            ),
            self._child,
        )
        self._grant(f"{name}-reader-reads", args.names.federated_member(function), "roles/cloudkms.publicKeyViewer")
        answer = lambda_.Invocation(
            f"{name}-public",
            function_name=reader.function,
            input=pulumi.Output.json_dumps(
                {
                    Site.AWS.value: [key.arn for key in self._aws],
                    Site.GCP.value: [version.name for version in self._versions],
                },
                sort_keys=True,
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[reader, *self._aws, *self._versions]),
        )
        # In one order, so that the same keys never show as a change.
        return answer.result.apply(lambda text: json.dumps(json.loads(text), sort_keys=True))

    def _grant(self, name: str, member: pulumi.Input[str], role: str) -> None:
        google_kms.CryptoKeyIAMMember(
            name, crypto_key_id=self._google_key.id, role=role, member=member, opts=self._child
        )
