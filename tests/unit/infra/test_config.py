"""Config: every problem at once, each with key, value and what is allowed; no network."""

import pytest

from infra import config
from infra.errors import ConfigError
from infra.settings import Lost, Mode, Site
from tests.program.recording import STACKS, stack_settings, stack_values


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_is_valid(stack: str) -> None:
    settings = stack_settings(stack)
    assert settings.active is Site.AWS
    assert settings.mode is Mode.ACTIVE_PASSIVE
    assert settings.lost is Lost.AUTO
    assert settings.prefix == f"lifeboat-{stack}"


def problems(**changes: object) -> list[str]:
    values = stack_values("prod", changes)
    with pytest.raises(ConfigError) as raised:
        config.parse(values)
    return [line.strip() for line in str(raised.value).splitlines() if line.startswith("  ")]


def test_all_problems_are_reported_at_once_with_key_value_and_allowed_values() -> None:
    found = problems(active="azure", mode="both", monitorSeconds="soon", prefix="Nope")
    assert found == [
        "lifeboat:active is \"azure\"; allowed: 'aws' or 'gcp'",
        "lifeboat:mode is \"both\"; allowed: 'active-passive' or 'active-active'",
        'lifeboat:monitorSeconds is "soon"; allowed: 1 to 3600 seconds',
        'lifeboat:prefix is "Nope"; allowed: 6 to 20 lower-case letters, digits and hyphens, a letter first',
    ]


def test_a_value_deep_inside_is_named_by_its_path() -> None:
    sites = {"aws": {}, "gcp": {}}
    found = problems(sites=sites)
    assert "lifeboat:sites.aws.imageId is not set; allowed: an AMI id, such as ami-0123456789abcdef0" in found
    assert any(line.startswith("lifeboat:sites.gcp.projectNumber is not set") for line in found)
    assert len(found) == 11


def test_a_missing_key_says_what_it_may_hold() -> None:
    values = stack_values("prod")
    del values["hostname"]
    with pytest.raises(ConfigError, match=r"lifeboat:hostname is not set; allowed: a full host name"):
        config.parse(values)


def test_an_unknown_key_gets_the_nearest_known_one() -> None:
    with pytest.raises(
        ConfigError, match=r"lifeboat:actve is not a key of this program; did you mean lifeboat:active\?"
    ):
        config.parse(stack_values("prod"), {"actve"})


def test_an_unknown_key_inside_an_object_is_refused() -> None:
    assert problems(fleets={"aws": {"active": 1, "standby": 1, "spare": 1}, "gcp": {"active": 1, "standby": 1}}) == [
        "lifeboat:fleets.aws.spare is not a key of this program; remove it"
    ]


def test_broken_json_is_named() -> None:
    assert any("lifeboat:fleets is not valid JSON" in line for line in problems(fleets="{aws"))


def test_an_empty_standby_is_refused() -> None:
    fleets = {"aws": {"active": 2, "standby": 0}, "gcp": {"active": 2, "standby": 1}}
    assert problems(fleets=fleets) == ["lifeboat:fleets.aws.standby is 0; allowed: 1 to 500 hosts"]


def test_conflicts_between_values_are_reported_together() -> None:
    sites = stack_settings("prod").sites.model_dump(by_alias=True, mode="json")
    sites["aws"]["certificateArn"] = sites["gcp"]["certificate"] = ""
    fleets = {"aws": {"active": 1, "standby": 2}, "gcp": {"active": 1, "standby": 1}}
    found = problems(sites=sites, fleets=fleets)
    assert len(found) == 3
    assert found[0].startswith("lifeboat:fleets aws: standby 2 is above active 1")
    assert "certificateArn is empty" in found[1] and "gcp.certificate is empty" in found[2]


def test_a_rate_that_would_starve_a_function_is_refused() -> None:
    (found,) = problems(artifactBytesPerSecond=999)
    assert found.startswith("lifeboat:artifactBytesPerSecond 999 would make one chunk outlast its function")


def test_every_key_of_the_project_file_is_read_and_described() -> None:
    import yaml

    from tests.program.recording import ROOT

    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    described = project["config"]
    known = {field.alias for field in config.Settings.model_fields.values()}
    assert set(described) == known
    assert all(entry["description"] and entry["type"] for entry in described.values())
    assert project["main"] == "infra" and project["stackConfigDir"] == "stacks"
    assert project["runtime"]["options"]["virtualenv"] == ".venv"
