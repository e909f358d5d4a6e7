"""Parity of models: every version at both sites and in the third copy, from signature to bytes (operate/verify_models.py).

A place's rows are its versions, its digest stands for which ones; what differs in a version is named with its layer.
"""

import hashlib
from collections.abc import Mapping

from functions.artifacts.paths import manifests_prefix, tombstones_prefix
from functions.stores.protocols import ObjectStore
from operate.verify.parity import NAMED, SideParity, StoreParity
from operate.verify_models import ModelsVerified


def parity_of(found: ModelsVerified, places: Mapping[str, ObjectStore]) -> StoreParity:
    """Return what was found as the parity of a store. What did not answer is a divergence too."""
    problems = [
        f"{each.place} {each.model} {each.version[:12]} {each.path or 'version'} ({each.layer}): {each.detail}"
        for each in found.mismatches
    ]
    problems += [f"{place} did not answer: {reason}" for place, reason in found.unreached.items()]
    return StoreParity(
        store="models",
        equal=found.equal,
        sides={place: _side(store) for place, store in places.items() if place not in found.unreached},
        differing=len(problems),
        unsettled=problems[:NAMED],
        seconds=found.seconds,
    )


def _side(store: ObjectStore) -> SideParity:
    versions = sorted(info.key for info in store.list(manifests_prefix()))
    retired = sum(1 for _ in store.list(tombstones_prefix()))
    return SideParity(len(versions), retired, hashlib.sha256("\n".join(versions).encode()).hexdigest())
