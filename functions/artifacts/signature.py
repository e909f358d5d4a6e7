"""`model.sig`: the version's signature in the form of OpenSSF model signing, so that its own tool verifies a downloaded folder.

https://github.com/sigstore/model-transparency: a sigstore bundle around a DSSE envelope around an in-toto statement with one
subject, whose SHA-256 runs over the digests of the files; the files stand in the predicate. All of it but the signature follows
from the manifest, and the manifest carries the signature: so every site writes the very same file, and nothing is sent for it.
It stands beside the files and is none of them: a version's root can't depend on a signature, which is never twice the same.
"""

import base64
import hashlib
import json

from functions.artifacts.attestation import statement
from functions.artifacts.encode import put_if_absent
from functions.artifacts.manifest import FileEntry, Manifest, ModelSignature
from functions.artifacts.paths import file_key
from functions.artifacts.sign import PAYLOAD_TYPE, Signer, pae_digest
from functions.stores.protocols import ObjectStore

NAME = "model.sig"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# What the tool itself leaves out when it signs a folder.
IGNORED = (NAME, ".git", ".gitattributes", ".github", ".gitignore")


def sign_model(model: str, files: list[FileEntry], signer: Signer) -> ModelSignature | None:
    """Return the signature for a manifest to carry; None for files among which is a `model.sig` of its own."""
    if any(file.path == NAME for file in files):
        return None
    return ModelSignature(
        signature=base64.b64encode(signer.sign(pae_digest(_statement(model, files)))).decode(),
        # The tool's own way to name a key: the digest of its PEM text.
        key=hashlib.sha256(signer.public_key_pem.encode()).hexdigest(),
    )


def bundle(manifest: Manifest) -> bytes | None:
    """Return the content of `model.sig`, None for a version that carries none."""
    if manifest.model_signature is None:
        return None
    # Order of the files and of the fields as in the statement that was signed: the bytes must be the same.
    return json.dumps(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": manifest.model_signature.key}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(_statement(manifest.model, manifest.files)).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": manifest.model_signature.signature, "keyid": ""}],
            },
        },
        separators=(",", ":"),
    ).encode()


def write(store: ObjectStore, manifest: Manifest) -> None:
    """Write `model.sig` beside a version's files, if it is not there."""
    data = bundle(manifest)
    if data is not None:
        put_if_absent(store, file_key(manifest.model, manifest.version, NAME), data, "application/json")


def _statement(model: str, files: list[FileEntry]) -> bytes:
    ignored = [name for name in IGNORED if all(file.path.split("/")[0] != name for file in files)]
    whole = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in files)).hexdigest()
    return statement(
        [(model, whole)],
        PREDICATE_TYPE,
        {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": ignored,
            },
            "resources": [{"name": file.path, "algorithm": "sha256", "digest": file.sha256} for file in files],
        },
    )
