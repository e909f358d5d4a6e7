"""Rights, network ranges, user data, archives: the pure parts of the program."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.artifacts.kernel import ENVIRONMENT
from functions.artifacts.kernel.recipe import build_of
from functions.settings import Site
from infra import archives
from infra.components.aws_network import zone_ranges
from infra.components.federation import google_credentials
from infra.errors import ArchiveError
from infra.naming import Names
from infra.rights import Statement
from infra.user_data import ENVIRONMENT_PATH, cloud_config, is_accelerated, registry_login
from tests.program.recording import stack_settings


@pytest.mark.parametrize(
    "wide",
    [
        Statement(actions=["s3:*"], resources=["arn:aws:s3:::bucket"]),
        Statement(actions=["s3:Get*"], resources=["arn:aws:s3:::bucket"]),
        Statement(actions=["s3:GetObject"], resources=["*"]),
        Statement(actions=["ecr:GetAuthorizationToken", "ecr:BatchGetImage"], resources=["*"]),
    ],
)
def test_rights_that_are_too_wide_cannot_be_written(wide: Statement) -> None:
    with pytest.raises(ValueError, match=r"wildcard|every resource"):
        wide.document()


def test_the_one_action_that_knows_no_resource_is_let_through() -> None:
    assert Statement(actions=["ecr:GetAuthorizationToken"], resources=["*"]).document()["Resource"] == ["*"]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=6, unique=True))
def test_subnets_never_overlap_and_a_new_zone_moves_none(zones: Sequence[str]) -> None:
    import ipaddress

    ranges = zone_ranges("10.20.0.0/16", zones)
    networks = [ipaddress.ip_network(text) for each in ranges.values() for text in (each.public, each.private)]
    assert all(not a.overlaps(b) for i, a in enumerate(networks) for b in networks[i + 1 :])
    fewer = zone_ranges("10.20.0.0/16", zones[:-1])
    assert all(ranges[zone] == fewer[zone] for zone in fewer)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True),
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
        min_size=1,
    )
)
def test_a_hosts_environment_survives_the_cloud_config(environment: dict[str, str]) -> None:
    text = cloud_config("image:1", "p4d.24xlarge", environment, 8080)
    head, _, document = text.partition("\n")
    assert head == "#cloud-config"
    files = {each["path"]: each["content"] for each in json.loads(document)["write_files"]}
    lines = files[ENVIRONMENT_PATH].splitlines()
    assert dict(line.split("=", 1) for line in lines) == environment


def test_a_line_break_in_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="line breaks"):
        cloud_config("image:1", "t3.small", {"A": "1\nB=2"}, 8080)


def test_gpus_are_given_to_the_container_where_there_are_some() -> None:
    with_gpu = cloud_config("image:1", "a2-highgpu-8g", {}, 8080)
    without = cloud_config("image:1", "e2-small", {}, 8080)
    assert "--gpus all" in with_gpu and "--gpus" not in without
    assert is_accelerated("p4d.24xlarge") and not is_accelerated("t3.small")


def test_registries_that_need_a_login_get_one() -> None:
    ecr = registry_login("123456789012.dkr.ecr.us-west-2.amazonaws.com/lifeboat/recommender:1")
    assert ecr is not None and "--region us-west-2" in ecr
    assert "us-west1-docker.pkg.dev" in (registry_login("us-west1-docker.pkg.dev/p/r/i:1") or "")
    assert registry_login("lifeboat/recommender:local") is None


def test_same_files_give_the_same_archive_whatever_their_order_and_age(tmp_path: Path) -> None:
    files = {"b.py": b"b", "a/c.py": b"c", "a.py": b"a"}
    one = archives.write_archive(tmp_path / "one.zip", files)
    two = archives.write_archive(tmp_path / "two.zip", dict(reversed(files.items())))
    assert one.sha256 == two.sha256
    assert one.path.read_bytes() == two.path.read_bytes()
    assert archives.write_archive(tmp_path / "two.zip", {**files, "a.py": b"A"}).sha256 != one.sha256


def test_an_unchanged_archive_is_left_alone(tmp_path: Path) -> None:
    first = archives.write_archive(tmp_path / "one.zip", {"a": b"1"})
    written = first.path.stat().st_mtime_ns, first.path.stat().st_ino
    again = archives.write_archive(tmp_path / "one.zip", {"a": b"1"})
    assert (again.path.stat().st_mtime_ns, again.path.stat().st_ino) == written
    assert list(tmp_path.iterdir()) == [first.path]


def test_function_archives_hold_what_their_cloud_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BUILD", tmp_path)
    held = {}
    for site in Site:
        with zipfile.ZipFile(archives.function_archive(site).path) as archive:
            held[site] = set(archive.namelist())
            assert archive.testzip() is None
    assert {"functions/__init__.py", "functions/settings.py", "functions/entry_aws.py"} <= held[Site.AWS]
    assert held[Site.GCP] - held[Site.AWS] == {"main.py", "requirements.txt"}
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in held[Site.AWS])


def test_a_layer_above_lambdas_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path))
    monkeypatch.setattr(archives, "UNPACKED_LIMIT_BYTES", 10)
    monkeypatch.setattr(archives, "_install", lambda target: (target / "big.py").write_bytes(b"x" * 11))
    with pytest.raises(ArchiveError, match=r"take 11 bytes unpacked, Lambda's limit is 10"):
        archives.layer_archives()


def test_a_layer_is_built_once_and_without_what_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path))
    built = []

    def install(target: Path) -> None:
        built.append(target)
        kept = ("library/__init__.py", "numpy.libs/a.so")
        for name in (*kept, "library/tests/test_it.py", "library/x.pyc", "bin/tool", "uvloop/loop.so"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(b"x")

    monkeypatch.setattr(archives, "_install", install)
    first, second = archives.layer_archives(), archives.layer_archives()
    assert first == second and len(built) == 1
    held = {layer: zipfile.ZipFile(archive.path).namelist() for layer, archive in first.items()}
    assert held == {"numbers": ["python/numpy.libs/a.so"], "libraries": ["python/library/__init__.py"]}


def test_a_layer_that_one_upload_can_not_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path))
    monkeypatch.setattr(archives, "UPLOAD_LIMIT_BYTES", 10)
    monkeypatch.setattr(archives, "_install", lambda target: (target / "big.py").write_bytes(b"x"))
    with pytest.raises(ArchiveError, match=r"layer numbers has .* in one upload"):
        archives.layer_archives()


def test_the_compiled_kernel_goes_into_both_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "BUILD", tmp_path)
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    name = "functions/artifacts/kernel/liblifeboat-x86_64.so"

    def holds(expected: bytes | None) -> bool:
        found = []
        for site in Site:
            first, second = archives.function_archive(site), archives.function_archive(site)
            assert first.sha256 == second.sha256
            with zipfile.ZipFile(first.path) as archive:
                found.append(archive.read(name) if name in archive.namelist() else None)
        return found == [expected] * 2

    assert holds(None), "what set-up could not build does not stop an update"
    built = build_of(tmp_path / "cache")
    built.parent.mkdir(parents=True)
    built.write_bytes(b"compiled")
    assert holds(b"compiled")
    mine = tmp_path / "liblifeboat-x86_64.so"
    mine.write_bytes(b"mine")
    monkeypatch.setenv(ENVIRONMENT, str(mine))
    assert holds(b"mine")
    monkeypatch.setenv(ENVIRONMENT, "off")
    assert holds(None)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none.so"))
    with pytest.raises(ArchiveError, match="no file"):
        archives.function_archive(Site.AWS)


def test_the_credentials_file_names_pool_and_provider_and_no_secret() -> None:
    names = Names.of(stack_settings("prod"))
    document = json.loads(google_credentials(names))
    assert document["audience"] == (
        "//iam.googleapis.com/projects/100000000003/locations/global"
        "/workloadIdentityPools/lifeboat-prod-aws/providers/aws"
    )
    assert "private_key" not in document
