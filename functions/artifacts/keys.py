"""Reads the public halves of signing keys, once, when they are made: the program keeps them in its state (see infra)."""

from collections.abc import Mapping, Sequence

from functions.artifacts.errors import ManifestError
from functions.settings import Site
from functions.stores.clients import Clients


def public_keys(clients: Clients, named: Mapping[str, object]) -> dict[str, Sequence[str]]:
    """Return the public keys, PEM by site, of the keys that `named` lists by site.

    Raises ManifestError for a list that is none, errors of the key services as they come.
    """
    found: dict[str, Sequence[str]] = {}
    for site in Site:
        keys = named.get(site)
        if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
            raise ManifestError(f"the event names no keys for {site}; it has to list them for {', '.join(Site)}")
        found[site] = [clients.signer_of(site, key).public_key_pem for key in keys]
    return found
