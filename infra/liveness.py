"""Which cloud is down, and how its resources stay as they were last deployed while it is.

A failover runs while every address of the lost cloud is dead. So nothing of that site may be created, changed or asked:
its resources ignore every change, and what would have to be made there is refused by name before anything is tried.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pulumi

from functions.settings import Site
from infra.errors import SiteLostError
from infra.settings import Lost, Settings

# Half for connecting, half for the answer: a cloud that accepts and never answers costs the whole of it.
PROBE_SECONDS = 3.0

Probe: TypeAlias = Callable[[str], bool]

# Packages whose resources belong to a site; the front door's belong to neither.
SITE_OF_PACKAGE: Mapping[str, Site] = {"aws": Site.AWS, "gcp": Site.GCP}


def control_planes(region: str, environment: Mapping[str, str]) -> Mapping[Site, str]:
    """Return the address that stands for each cloud's control plane."""
    aws = environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL")
    return {
        Site.AWS: aws or f"https://sts.{region}.amazonaws.com",
        Site.GCP: environment.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com",
    }


def answers(url: str) -> bool:
    """Say whether an address answers HTTP at all, with whatever status, within PROBE_SECONDS."""
    import httpx

    try:
        # The status says nothing here: refused without credentials is alive.
        httpx.get(url, timeout=PROBE_SECONDS / 2, follow_redirects=False)
    except httpx.HTTPError:
        return False
    return True


def lost_sites(settings: Settings, probe: Probe = answers) -> frozenset[Site]:
    """Return the site whose cloud is down: the configured one or, by `auto`, the one that alone does not answer."""
    if settings.lost is Lost.NONE:
        return frozenset()
    if settings.lost is not Lost.AUTO:
        return frozenset({Site(settings.lost.value)})
    addresses = control_planes(settings.sites.aws.region, os.environ)
    with ThreadPoolExecutor(len(addresses)) as pool:
        alive = dict(zip(addresses, pool.map(probe, addresses.values()), strict=True))
    silent = frozenset(site for site, is_alive in alive.items() if not is_alive)
    if len(silent) == len(addresses):
        # Two clouds at once is this machine's network far more often than two disasters; freezing both would do nothing.
        pulumi.log.warn(
            f"neither control plane answers ({', '.join(addresses.values())}): going on as if both were up."
            " Check this machine's network, or name the lost site with lifeboat:lost."
        )
        return frozenset()
    for site in silent:
        pulumi.log.warn(
            f"{addresses[site]} does not answer: the resources of site {site} stay as last deployed."
            " The next run after it is back brings them in line; `lifeboat:lost none` insists now."
        )
    return silent


def freeze(lost: frozenset[Site]) -> None:
    """Keep every resource of the lost sites as last deployed. Call before the first resource is made."""
    if not lost:
        return
    # In previews as well: what can't be done is then said before anything else of the run is done.
    hook = pulumi.ResourceHook("lost-site", _refuse, pulumi.ResourceHookOptions(on_dry_run=True))
    binding = pulumi.ResourceHookBinding(before_create=[hook], before_update=[hook])

    def transform(args: pulumi.ResourceTransformArgs) -> pulumi.ResourceTransformResult | None:
        if not args.custom or site_of(args.type_) not in lost:
            return None
        options = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(ignore_changes=["*"], hooks=binding))
        return pulumi.ResourceTransformResult(args.props, options)

    pulumi.runtime.register_resource_transform(transform)


def site_of(type_token: str) -> Site | None:
    """Return the site that a resource type belongs to, None for the front door's and for components."""
    return SITE_OF_PACKAGE.get(type_token.partition(":")[0])


def _refuse(args: pulumi.ResourceHookArgs) -> None:
    raise SiteLostError(
        f"{args.name} ({args.type}) would have to be made or changed on site {site_of(args.type)}, whose cloud does not"
        " answer. Take that change out of this run, wait for the cloud, or set `lifeboat:lost none` if it is up."
    )
