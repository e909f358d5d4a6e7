"""What entries of the AWS table have in common: names, ARNs, outputs of every resource.

Forms are those of the AWS documentation (service authorization reference for ARNs).
"""

from local.providers.behaviours.table import AutoName, merged_tags
from local.providers.behaviours.table import OutputRule as Rule

NAME = AutoName()
_ARN = "arn:aws:{service}:{{region,@region}}:{{@account}}:"


def arn(service: str, rest: str) -> str:
    return _ARN.format(service=service) + rest


def regional(**outputs: Rule) -> dict[str, Rule]:
    return {"region": "{region,@region}", **outputs}


def tagged(**outputs: Rule) -> dict[str, Rule]:
    return {"region": "{region,@region}", "tagsAll": merged_tags("tags"), **outputs}
