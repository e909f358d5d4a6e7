"""The front door: what users connect to, which site it asks first, and how it finds out that a site is gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from functions.settings import Site
from infra import edge
from infra.settings import Scheme
from infra.topology import Steering, Topology

# Two failures in a row: one lost probe moves no traffic, and a dead site is out after two intervals and a time-out.
CONSECUTIVE_FAILURES = 2
PROBE_TIMEOUT_SECONDS = 2
# Cloudflare's default for the affinity cookie.
AFFINITY_SECONDS = 82_800


@dataclass(frozen=True, kw_only=True)
class FrontDoorArgs:
    """`addresses` are the sites' entrances; `after` is what must serve before traffic may be sent to it."""

    account_id: str
    zone_id: str
    hostname: str
    scheme: Scheme
    pool_prefix: str
    monitor_seconds: int
    topology: Topology
    addresses: Mapping[Site, pulumi.Input[str]]
    after: Sequence[pulumi.Resource]


class FrontDoor(pulumi.ComponentResource):
    """A Cloudflare load balancer with one pool a site.

    Steering is off while one site serves: the pools are tried in order. A request that meets a connection error is tried
    once more in the next pool. While both serve, requests are spread by fleet size and a session keeps its site by a
    cookie; with one serving site a cookie would only hold sessions back from following a planned shift.
    `hooks` are the gate and the check after it (infra/hooks.py); they need this door's pools, so they are given a chance
    to see them before the load balancer is made.
    """

    def __init__(self, name: str, args: FrontDoorArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:edge:FrontDoor", name, None, opts)
        self._name = name
        self._args = args
        child = pulumi.ResourceOptions(parent=self)
        monitor = edge.monitor(
            f"{name}-monitor",
            edge.Monitor(
                account_id=args.account_id,
                type=args.scheme.value,
                method="GET",
                path="/ready",
                port=args.scheme.port,
                expected_codes="200",
                interval=args.monitor_seconds,
                timeout=PROBE_TIMEOUT_SECONDS,
                retries=0,
                consecutive_down=CONSECUTIVE_FAILURES,
                consecutive_up=CONSECUTIVE_FAILURES,
                header={"Host": [args.hostname]},
                description=f"{args.pool_prefix} readiness",
            ),
            child,
        )
        self.pools: Mapping[Site, pulumi.CustomResource] = {
            site: edge.pool(
                f"{name}-pool-{site}",
                edge.Pool(
                    account_id=args.account_id,
                    name=f"{args.pool_prefix}-{site}",
                    origins=[
                        {
                            "name": site.value,
                            "address": address,
                            "enabled": True,
                            "weight": 1,
                            "header": {"hosts": [args.hostname]},
                        }
                    ],
                    monitor=monitor.id,
                    enabled=True,
                    minimum_origins=1,
                    description=f"{args.pool_prefix} on {site}",
                ),
                child,
            )
            for site, address in args.addresses.items()
        }

    def open(self, hooks: pulumi.ResourceHookBinding | None) -> pulumi.CustomResource:
        """Make the load balancer, with the hooks that guard a shift of traffic."""
        args, topology = self._args, self._args.topology
        spread = topology.steering is Steering.RANDOM
        weights = {self.pools[site].id: weight for site, weight in topology.weights.items()}
        pool_weights = pulumi.Output.all(*weights).apply(
            lambda ids: {"defaultWeight": 0.0, "poolWeights": dict(zip(ids, weights.values(), strict=True))}
        )
        balancer = edge.load_balancer(
            f"{self._name}-balancer",
            edge.LoadBalancer(
                zone_id=args.zone_id,
                name=args.hostname,
                default_pools=[self.pools[site].id for site in topology.pool_order],
                fallback_pool=self.pools[topology.active].id,
                steering_policy=topology.steering.value,
                random_steering=pool_weights if spread else None,
                proxied=True,
                enabled=True,
                adaptive_routing={"failoverAcrossPools": True},
                session_affinity="cookie" if spread else "none",
                session_affinity_ttl=AFFINITY_SECONDS if spread else None,
                session_affinity_attributes={"zeroDowntimeFailover": "temporary"} if spread else None,
                description=f"{args.pool_prefix} front door",
            ),
            pulumi.ResourceOptions(parent=self, depends_on=list(args.after), hooks=hooks),
        )
        self.register_outputs({"hostname": args.hostname})
        return balancer
