"""What happens around a shift of traffic: the gate before it, golden requests after it.

Both hang on the load balancer's update. A raising hook before it leaves the load balancer as it is and fails the
deployment; one after it fails the deployment with the shift recorded. Neither runs in a preview, and neither runs when
the set of serving sites stays the same. They are coroutines, as the program's other resources must not wait for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from control.errors import GateRedError
from functions.settings import Site
from infra.errors import VerificationError
from infra.settings import Settings
from infra.topology import Steering, Topology


@dataclass(frozen=True)
class Shift:
    """What a change of the load balancer means: who serves before it and after it."""

    before: frozenset[Site]
    after: frozenset[Site]

    @property
    def joining(self) -> frozenset[Site]:
        """Return the sites that begin to serve."""
        return self.after - self.before


def shift(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, pools: Mapping[str, Site]) -> Shift:
    """Read a shift off the load balancer's inputs; `pools` maps pool ids to sites."""
    return Shift(_serving(old or {}, pools), _serving(new or {}, pools))


def _serving(inputs: Mapping[str, Any], pools: Mapping[str, Site]) -> frozenset[Site]:
    order = [pools[pool] for pool in inputs.get("defaultPools", ()) if pool in pools]
    return frozenset(order if inputs.get("steeringPolicy") == Steering.RANDOM else order[:1])


class Guard:
    """The two hooks of one stack's load balancer."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        addresses: Mapping[Site, pulumi.Output[str]],
        pools: Mapping[Site, pulumi.CustomResource],
    ) -> None:
        self._settings = settings
        self._topology = topology
        self._addresses = addresses
        self._pools = pools

    def binding(self) -> pulumi.ResourceHookBinding:
        """Return the hooks as a resource takes them."""
        return pulumi.ResourceHookBinding(
            before_update=[pulumi.ResourceHook("gate", self._gate)],
            after_update=[pulumi.ResourceHook("verification", self._verify)],
        )

    async def _gate(self, args: pulumi.ResourceHookArgs) -> None:
        """Let traffic move only to a site whose gate is green. Raises GateRedError."""
        from control.gate import Limits
        from control.gate_client import Entrance, probe_client, wait_for_green

        settings = self._settings
        change = shift(args.old_inputs, args.new_inputs, await self._sites_by_pool())
        limits = Limits(feature_lag_ms=settings.objectives.feature_lag_ms)
        override = settings.gate_override
        entrances = {
            site: Entrance(settings.public_scheme.value, str(await address.future()), settings.hostname)
            for site, address in self._addresses.items()
        }
        for site in sorted(change.joining):
            pulumi.log.info(f"gate: asking site {site}, for {settings.gate_seconds} s at most")
            async with probe_client() as client:
                verdict = await wait_for_green(
                    client,
                    (site.value, entrances[site]),
                    (site.peer.value, entrances[site.peer]),
                    limits,
                    0 if override else settings.gate_seconds,
                )
            for check in verdict.checks:
                pulumi.log.info(f"gate: {'passed' if check.passed else 'FAILED'} {check.line()}")
            if verdict.green:
                continue
            failed = "; ".join(check.line() for check in verdict.failed)
            summary = f"{len(verdict.failed)} of {len(verdict.checks)} checks failed: {failed}"
            if not override:
                raise GateRedError(
                    f"failover to {site} refused after {settings.gate_seconds} s, {summary}. Traffic has not moved."
                    f" Mend what is named and run again, or set lifeboat:gateOverride to the reason for going on."
                )
            pulumi.log.warn(f"gate: red and overridden ({override}): {summary}")

    async def _verify(self, args: pulumi.ResourceHookArgs) -> None:
        """Hold the public name to the new site. Raises VerificationError."""
        from control.gate_client import Entrance, Golden, probe_client, wait_until_served

        settings = self._settings
        change = shift(args.old_inputs, args.new_inputs, await self._sites_by_pool())
        if change.before == change.after:
            return
        public = Entrance(settings.public_scheme.value, settings.hostname, settings.hostname)
        golden = Golden(settings.golden_request.path, settings.golden_request.body)
        sites = frozenset(site.value for site in change.after)
        limit_seconds = 0 if settings.gate_override else settings.gate_seconds
        async with probe_client() as client:
            problem = await wait_until_served(client, public, golden, sites, limit_seconds)
        if problem is None:
            pulumi.log.info(f"verification: {settings.hostname} is served by {' and '.join(sorted(sites))}")
            return
        message = (
            f"traffic was moved, but {settings.hostname} is not served by {' or '.join(sorted(sites))} after"
            f" {limit_seconds} s: {problem}. Ask the sites' /ready, and move back by setting lifeboat:active as it was."
        )
        if not settings.gate_override:
            raise VerificationError(message)
        pulumi.log.warn(f"verification: {message}")

    async def _sites_by_pool(self) -> dict[str, Site]:
        return {str(await pool.id.future()): site for site, pool in self._pools.items()}
