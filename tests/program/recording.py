"""The program under a monitor that records every registration: inputs, options, provider, dependencies, hooks."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import set_all_config
from pulumi.runtime.settings import SETTINGS, get_root_resource
from pulumi.runtime.stack import Stack

from infra import config, outputs
from infra.program import Builder
from infra.settings import Settings
from infra.topology import topology

ROOT = Path(__file__).resolve().parent.parent.parent
STACKS = ("local", "dev", "prod")
# The form of a key, which is all that the program and a function's settings look at.
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"
_LOOP = asyncio.new_event_loop()


@dataclass(frozen=True)
class Registration:
    """One resource as the program registered it."""

    urn: str
    type: str
    name: str
    custom: bool
    inputs: Mapping[str, Any]
    parent: str
    provider: str
    protect: bool
    retain: bool
    dependencies: frozenset[str]
    hooks: Mapping[str, tuple[str, ...]]
    version: str


class _Outputs(mocks.Mocks):
    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program called {args.token}: nothing in a failover's path may ask a cloud")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if not args.custom:
            return "", {}
        state = dict(args.inputs)
        state["arn"] = f"arn:aws:test:us-west-2:123456789012:{args.typ}/{args.name}"
        state |= _on_aws(args, state["arn"]) if args.typ.startswith("aws:") else _on_google(args)
        for output in ("selfLink", "instanceGroup"):
            state.setdefault(output, f"https://compute.test/{args.name}/{output}")
        if args.typ == "gcp:pubsub/topic:Topic":
            return f"projects/project/topics/{args.inputs['name']}", state
        return f"{args.name}-id", state


def _on_aws(args: mocks.MockResourceArgs, arn: str) -> dict[str, Any]:
    """Return what AWS computes and the program uses."""
    computed: dict[str, dict[str, Any]] = {
        "aws:sqs/queue:Queue": {
            "url": f"https://sqs.us-west-2.amazonaws.com/123456789012/{args.inputs.get('name')}",
        },
        "aws:rds/cluster:Cluster": {"masterUserSecrets": [{"secretArn": f"{arn}/secret"}]},
        "aws:dynamodb/table:Table": {"streamArn": f"{arn}/stream/1"},
        "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 1},
        "aws:kms/key:Key": {"keyId": f"{args.name}-id"},
        # What the function that reads public keys answers; whoever invokes another one does not look.
        "aws:lambda/invocation:Invocation": {"result": json.dumps({"aws": [PUBLIC_KEY], "gcp": [PUBLIC_KEY]})},
        "aws:lb/loadBalancer:LoadBalancer": {"dnsName": "entrance.us-west-2.elb.amazonaws.com"},
        "aws:elasticache/replicationGroup:ReplicationGroup": {"primaryEndpointAddress": "redis.cache.amazonaws.com"},
        "aws:ec2/vpcEndpoint:VpcEndpoint": {"prefixListId": f"pl-{args.name}"},
    }
    return computed.get(args.typ, {})


def _on_google(args: mocks.MockResourceArgs) -> dict[str, Any]:
    """Return what Google computes and the program uses."""
    if args.typ == "gcp:serviceaccount/account:Account":
        email = f"{args.inputs['accountId']}@project.iam.gserviceaccount.com"
        return {
            "email": email,
            "member": f"serviceAccount:{email}",
            "uniqueId": "100000000000000000001",
            "name": f"projects/project/serviceAccounts/{email}",
        }
    if args.typ == "gcp:cloudfunctionsv2/function:Function":
        return {"serviceConfig": {**args.inputs["serviceConfig"], "uri": f"https://{args.inputs['name']}.run.app"}}
    if args.typ == "gcp:kms/cryptoKeyVersion:CryptoKeyVersion":
        return {"name": f"{args.inputs['cryptoKey']}/cryptoKeyVersions/{args.name}"}
    if args.typ == "gcp:memorystore/instance:Instance":
        found = {"connectionType": "CONNECTION_TYPE_PRIMARY", "ipAddress": "10.30.0.9", "port": 6379}
        return {
            "endpoints": [{"connections": [{"pscAutoConnection": found}]}],
            "managedServerCas": [{"caCerts": [{"certificates": ["-----BEGIN CERTIFICATE-----"]}]}],
        }
    return {"address": "203.0.113.7"} if args.typ == "gcp:compute/globalAddress:GlobalAddress" else {}


class _Callbacks:
    """Takes the hooks and transforms that a real engine would call back."""

    def __init__(self) -> None:
        self.hooks: dict[str, pulumi.ResourceHook] = {}
        self.transforms: list[Any] = []

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        self.hooks[hook.name] = hook

    def register_stack_transform(self, transform: Any) -> None:
        self.transforms.append(transform)


def _comparable(value: Any) -> Any:
    """Return a value in which files are named by their path, as two handles of one file are not equal."""
    if isinstance(value, dict):
        return {key: _comparable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    return str(value.path) if isinstance(value, pulumi.FileArchive | pulumi.FileAsset) else value


class Recorder(mocks.MockMonitor):
    """Keeps every registration in order."""

    def __init__(self, stack: str) -> None:
        super().__init__(_Outputs())
        self.stack = stack
        self.registrations: list[Registration] = []
        self.outputs: dict[str, Any] = {}
        self.finished: set[str] = set()
        self.callbacks = _Callbacks()

    def RegisterResource(self, request: Any) -> Any:
        answer = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            self.registrations.append(
                Registration(
                    urn=answer.urn,
                    type=request.type,
                    name=request.name,
                    custom=request.custom,
                    inputs=_comparable(rpc.deserialize_properties(request.object)),
                    parent=request.parent,
                    provider=request.provider,
                    protect=request.protect,
                    retain=request.retainOnDelete,
                    dependencies=frozenset(request.dependencies),
                    hooks={
                        kind: tuple(getattr(request.hooks, kind))
                        for kind in ("before_create", "after_create", "before_update", "after_update")
                    },
                    version=request.version,
                )
            )
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self.finished.add(request.urn)
        return super().RegisterResourceOutputs(request)

    def held(self) -> Iterator[Registration]:
        """Return what a cloud holds: no components, no providers."""
        return (r for r in self.registrations if r.custom and not r.type.startswith("pulumi:providers:"))

    def of(self, type_token: str) -> list[Registration]:
        """Return the resources of a type."""
        return [r for r in self.registrations if r.type == type_token]

    def one(self, type_token: str) -> Registration:
        """Return the only resource of a type."""
        (found,) = self.of(type_token)
        return found


def stack_values(stack: str, changes: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return a stack's config as the engine hands it over: defaults of the project, then the stack's own values."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    values = {key: entry["default"] for key, entry in project.items() if "default" in entry}
    own = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text())["config"]
    values |= {key.removeprefix("lifeboat:"): value for key, value in own.items() if key.startswith("lifeboat:")}
    values |= changes or {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def stack_settings(stack: str, changes: Mapping[str, Any] | None = None) -> Settings:
    """Return a stack's settings."""
    return config.parse(stack_values(stack, changes))


def deploy(stack: str, changes: Mapping[str, Any] | None = None) -> Recorder:
    """Run the program for a stack, as if for the first time."""
    # The SDK takes the thread's loop, and a test that ran one of its own has left the thread without.
    asyncio.set_event_loop(_LOOP)
    recorder = Recorder(stack)
    pulumi.runtime.set_mocks(_Outputs(), project="lifeboat", stack=stack, preview=False, monitor=recorder)
    SETTINGS.callbacks = recorder.callbacks  # type: ignore[assignment]
    set_all_config({f"lifeboat:{key}": value for key, value in stack_values(stack, changes).items()})

    def program() -> pulumi.Output[None]:
        settings = config.load()
        outputs.export(Builder(settings, topology(settings), stack).build())
        root = get_root_resource()
        assert isinstance(root, Stack)
        return pulumi.Output.from_input(root.outputs).apply(recorder.outputs.update)

    pulumi.runtime.test(program)()
    return recorder
