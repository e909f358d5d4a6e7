"""What entries of the Google table have in common: names, paths, outputs of every resource, grants."""

from local.providers.behaviours.table import AutoName, Behaviour, behaviour, merged_tags
from local.providers.behaviours.table import OutputRule as Rule

# The platform's usual rule for resource names: 63 characters, lower case (RFC 1035).
NAME = AutoName(maximum=63, lowercase=True)

PROJECT = "projects/{project,@project}"
COMPUTE = "https://www.googleapis.com/compute/v1/"


def outputs_of(labels: bool = False, **more: Rule) -> dict[str, Rule]:
    outputs: dict[str, Rule] = {"project": "{project,@project}"}
    if labels:
        outputs |= {"effectiveLabels": merged_tags("labels"), "pulumiLabels": merged_tags("labels")}
    return outputs | more


def compute(
    token: str, collection: str, *, place: str = "global", replace: str = "", labels: bool = False, **more: Rule
) -> Behaviour:
    path = f"{PROJECT}/{place}/{collection}/{{name}}"
    regional: dict[str, Rule] = {"region": "{region,@region}"} if place != "global" else {}
    return behaviour(
        f"gcp:compute/{token}",
        path,
        name=NAME,
        replace=f"name project {replace}" + (" region" if regional else ""),
        outputs=outputs_of(labels, selfLink=COMPUTE + path, **regional, **more),
    )


REGION = "regions/{region,@region}"


def member(token: str, parent: str, *, parents: str, **outputs: Rule) -> Behaviour:
    """Return a grant of one role to one member; any change makes another grant."""
    return behaviour(token, parent + "/{role}/{member}", replace=f"member role condition {parents}", outputs=outputs)
