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
            "artifact-plan": system.artifacts.plan.arn,
            "artifact-encode": system.artifacts.encode.arn,
            "artifact-rebuild": system.artifacts.rebuild.uri,
            "artifact-verify": system.artifacts.verify.uri,
            "features-apply": system.features.apply.arn,
        },
    )
    pulumi.export(
        "objectives",
        {"rtoSeconds": settings.objectives.rto_seconds, "featureLagMs": settings.objectives.feature_lag_ms},
    )
    pulumi.export("artifactBucketR2", names.artifact_bucket("r2"))
