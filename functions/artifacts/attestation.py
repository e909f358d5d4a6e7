"""in-toto statements: what a site says about files, in the form that supply chain tools read, signed or to be signed.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md: subjects carry names and SHA-256 digests, the predicate
says the rest, and its type says what it means. Ours are URNs, since a predicate type is a name and need not be an address.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.artifacts.errors import ManifestError
from functions.artifacts.sign import Sealed, Signer, seal, unseal

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
VERSION_TYPE = "urn:lifeboat:model-version:v1"
TOMBSTONE_TYPE = "urn:lifeboat:tombstone:v1"
AUDIT_TYPE = "urn:lifeboat:audit:v1"

MOST_SUBJECTS = 10_000

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Digests(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Sha256


class _Subject(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=2_048)]
    digest: _Digests


class _Statement(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[_Subject], Field(max_length=MOST_SUBJECTS)]
    predicateType: str  # noqa: N815 - in-toto's own name
    predicate: dict[str, Any]


@dataclass(frozen=True)
class Attested:
    """A statement as it was read: subjects as (name, SHA-256), the predicate unchecked, and what holds the signatures."""

    subjects: Sequence[tuple[str, str]]
    predicate: dict[str, Any]
    sealed: Sealed


def statement(subjects: Sequence[tuple[str, str]], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Return a statement's bytes: equal statements, equal bytes."""
    return json.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
            "predicateType": predicate_type,
            "predicate": predicate,
        },
        separators=(",", ":"),
        sort_keys=True,
        ensure_ascii=False,
    ).encode()


def attest(
    subjects: Sequence[tuple[str, str]], predicate_type: str, predicate: Mapping[str, Any], signer: Signer
) -> bytes:
    """Return a signed statement's bytes."""
    return seal(statement(subjects, predicate_type, predicate), signer)


def read(data: bytes, predicate_type: str, what: str, most_bytes: int) -> Attested:
    """Return a signed statement of this type, its signatures unchecked; ManifestError, naming `what`, for anything else."""
    if len(data) > most_bytes:
        raise ManifestError(f"{what} has {len(data)} bytes, at most {most_bytes} are allowed")
    sealed = unseal(data, what)
    try:
        found = _Statement.model_validate_json(sealed.payload)
    except ValidationError as error:
        raise ManifestError(f"{what} holds no in-toto statement: {explain(error)}. Publish it again") from error
    if found.predicateType != predicate_type:
        raise ManifestError(f"{what} says {found.predicateType[:100]!r}, expected is {predicate_type}")
    return Attested([(each.name, each.digest.sha256) for each in found.subject], found.predicate, sealed)


def explain(error: ValidationError) -> str:
    """Return what is wrong with a document in one line, without the document itself."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}"[:300] for each in error.errors()[:3])
