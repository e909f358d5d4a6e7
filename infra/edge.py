"""The few Cloudflare types that the program uses, registered by token.

Importing pulumi_cloudflare loads every type it has: 2 seconds and 115 MB for each of the two runs of an `up`, in the
middle of a failover. A program test holds these dataclasses against the installed package, so they cannot drift from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

import pulumi
from pydantic.alias_generators import to_camel

PACKAGE = "cloudflare"


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An R2 bucket."""

    account_id: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """How the health of a pool's origins is probed; times in seconds."""

    account_id: str
    type: str
    method: str
    path: str
    port: int
    expected_codes: str
    interval: int
    timeout: int
    retries: int
    consecutive_down: int
    consecutive_up: int
    header: Mapping[str, Sequence[str]]
    description: str


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One site, as the front door sees it."""

    account_id: str
    name: str
    origins: Sequence[Mapping[str, Any]]
    monitor: pulumi.Input[str]
    enabled: bool
    minimum_origins: int
    description: str


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """The front door. What is None is not set at all: an empty map would show as a change on every run."""

    zone_id: str
    name: str
    default_pools: Sequence[pulumi.Input[str]]
    fallback_pool: pulumi.Input[str]
    steering_policy: str
    proxied: bool
    enabled: bool
    adaptive_routing: Mapping[str, bool]
    session_affinity: str
    description: str
    random_steering: pulumi.Input[Mapping[str, Any]] | None = None
    session_affinity_ttl: int | None = None
    session_affinity_attributes: Mapping[str, Any] | None = None


def bucket(name: str, args: Bucket, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Make an R2 bucket."""
    return _register("r2Bucket:R2Bucket", name, args, opts)


def monitor(name: str, args: Monitor, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Make a load balancer monitor."""
    return _register("loadBalancerMonitor:LoadBalancerMonitor", name, args, opts)


def pool(name: str, args: Pool, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Make a load balancer pool."""
    return _register("loadBalancerPool:LoadBalancerPool", name, args, opts)


def load_balancer(name: str, args: LoadBalancer, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """Make a load balancer."""
    return _register("loadBalancer:LoadBalancer", name, args, opts)


def provider(name: str) -> pulumi.ProviderResource:
    """Make the Cloudflare provider; its token comes from the environment, so that it is never in the state."""
    return pulumi.ProviderResource(PACKAGE, name, {}, pulumi.ResourceOptions(version=_version()))


def _register(token: str, name: str, args: Any, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    properties = {
        to_camel(field.name): getattr(args, field.name)
        for field in fields(args)
        if getattr(args, field.name) is not None
    }
    options = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(version=_version()))
    return pulumi.CustomResource(f"{PACKAGE}:index/{token}", name, properties, options)


def _version() -> str:
    return version(f"pulumi_{PACKAGE}")
