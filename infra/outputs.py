"""What the stack exports: where things are and what serves, for people, the command line and other programs."""

import pulumi

from infra.program import System


def export(system: System) -> None:
    """Export the stack's outputs."""
    settings, names = system.settings, system.names
    tables = names.feature_tables()
    scheme = settings.public_scheme.value
    pulumi.export("active", settings.active.value)
    pulumi.export("mode", settings.mode.value)
    pulumi.export("model", settings.model)
    pulumi.export("publicUrl", f"{scheme}://{settings.hostname}")
    pulumi.export(
        "sites",
        {
            site.value: {
                "role": system.topology.sites[site].role.value,
                "fleet": parts.fleet,
                "fleetSize": parts.size,
                "url": pulumi.Output.concat(scheme, "://", parts.address),
                "artifactBucket": names.artifact_bucket(site),
                "featureTable": tables[site.value],
            }
            for site, parts in system.sites.items()
        },
    )
    pulumi.export(
        "functions",
        {
            **{f"artifact-{step}": function.arn for step, function in system.artifacts.on_aws.items()},
            **{f"artifact-{step}-gcp": function.uri for step, function in system.artifacts.on_gcp.items()},
            "features-apply": system.features.apply.arn,
            "features-apply-gcp": system.google_features.apply.uri,
        },
    )
    pulumi.export(
        "objectives",
        {"rtoSeconds": settings.objectives.rto_seconds, "featureLagMs": settings.objectives.feature_lag_ms},
    )
    # What whoever publishes from outside needs: each site's key to sign with, and the public halves.
    pulumi.export(
        "signing",
        {
            "keys": {site.value: reference for site, reference in system.keys.references.items()},
            "public": system.keys.public,
        },
    )
    pulumi.export("artifactBucketR2", names.artifact_bucket("r2"))
    if settings.third_copy_keys is not None:
        pulumi.export(
            "thirdCopy",
            {
                "account": settings.cloudflare_account_id,
                "bucket": names.artifact_bucket("r2"),
                "key": settings.third_copy_keys.aws,
            },
        )
    if system.bridge is not None:
        bridge = system.bridge
        pulumi.export("bridge", {"outgoing": bridge.outgoing, "topic": bridge.topic, "incoming": bridge.incoming})
    if system.user_data is not None:
        users = system.user_data
        pulumi.export("userData", {"drain": users.drain.arn, "apply": users.apply.uri, "databases": users.databases})
    if system.redis_source is not None:
        pulumi.export("redisSource", system.redis_source.places)
