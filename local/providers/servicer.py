"""The resource provider protocol over a table of behaviours: one servicer for all three packages.

The engine starts one process for each provider resource of a program, and fresh ones for preview and update, so nothing
is remembered here: what exists is in the cloud (`clouds`), what the program asked for is in every request.
"""
# ruff: noqa: N802 - the protocol names the methods

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from local.names import Cloud
from local.providers import archives, behaviours, checks, diff, injections, naming, schema
from local.providers.behaviours.table import Account, Behaviour, Scope, hashed
from local.providers.clouds import CloudClient
from local.providers.errors import AlreadyExistsError, ProviderError, UnknownTypeError
from local.providers.wire import Properties, Unknown, conceal_like, decode, encode, unwrap
from local.state import Resource

AWS_ACCOUNT = "123456789012"
GOOGLE_PROJECT_NUMBER = "100000000001"

# How often an id that a cloud makes up is drawn again when it is taken, as after a forced replacement.
ID_ATTEMPTS = 8

_KINDS = {
    ("add", False): provider_pb2.PropertyDiff.ADD,
    ("add", True): provider_pb2.PropertyDiff.ADD_REPLACE,
    ("delete", False): provider_pb2.PropertyDiff.DELETE,
    ("delete", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    ("update", False): provider_pb2.PropertyDiff.UPDATE,
    ("update", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


class ResourceRequest(Protocol):
    """The fields that requests about a resource have in common."""

    urn: str
    name: str
    type: str


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Answers the engine for one package."""

    def __init__(self, cloud: Cloud, connect: Callable[[], tuple[CloudClient, Path]]) -> None:
        """Take the package and a way to reach its cloud, which is used once the engine configures the provider.

        `connect` returns the cloud and its ground's folder; a ProviderError it raises is shown to the user then.
        """
        self._cloud = cloud
        self._connect = connect
        self._connection: tuple[CloudClient, Path] | None = None
        self._account = Account()
        self._cancelled = threading.Event()

    # Start

    def Handshake(self, request: Any, context: Any) -> Any:
        """Say which kinds of values this provider takes."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Report the version of the installed SDK package, which the engine compares with the program's."""
        return plugin_pb2.PluginInfo(version=schema.package_version(self._cloud))

    def CheckConfig(self, request: Any, context: Any) -> Any:
        """Refuse configuration that the real provider does not have; values stay as they are."""
        config = unwrap(decode(request.news))
        known = schema.load(f"pulumi:providers:{self._cloud}").inputs
        failures = [
            provider_pb2.CheckFailure(property=name, reason=f'provider {self._cloud} has no property "{name}"')
            for name in config
            if name not in known and name not in ("version", "pluginDownloadURL") and not name.startswith("__")
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        """Leave the comparison to the engine: no configuration change replaces resources."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_UNKNOWN)

    def Configure(self, request: Any, context: Any) -> Any:
        """Learn region and project; AWS looks its credentials up unless told not to, as the real provider does."""
        with _reported(context):
            config = _config(request)
            self._account = _account(self._cloud, config)
            self._connection = self._connect()
            skips = ("skipCredentialsValidation", "skipRequestingAccountId")
            if self._cloud is Cloud.AWS and not all(config.get(name) is True for name in skips):
                self._client.reach("configuring the provider, which validates its credentials")
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    # Resources

    def Check(self, request: Any, context: Any) -> Any:
        """Refuse inputs that do not fit the type, and fill in the name that the real provider would."""
        inputs = decode(request.news)
        try:
            behaviour = behaviours.find(self._cloud, request.type)
        except UnknownTypeError as error:
            return provider_pb2.CheckResponse(
                inputs=request.news, failures=[provider_pb2.CheckFailure(reason=str(error))]
            )
        with _reported(context):
            found = checks.misfits(schema.load(request.type), unwrap(inputs))
            named = naming.fill_name(
                behaviour.auto_name, request.name, inputs, decode(request.olds), _digits(request.randomSeed)
            )
            # The engine quotes the value of a top-level property only; the reason has the whole path.
            failures = [
                provider_pb2.CheckFailure(property=diff.top(misfit.property), reason=misfit.reason) for misfit in found
            ]
            return provider_pb2.CheckResponse(inputs=encode(named), failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:
        """Compare inputs; a change to a property that the service cannot change in place asks for a replacement."""
        with _reported(context):
            behaviour = behaviours.find(self._cloud, request.type)
            old, new = decode(request.old_inputs), decode(request.news)
            found = diff.changes(behaviour, old, new, request.ignoreChanges)
            kind = provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE
            replaces = sorted({diff.top(change.path) for change in found if change.replaces})
            return provider_pb2.DiffResponse(
                changes=kind,
                diffs=sorted({diff.top(change.path) for change in found}),
                replaces=replaces,
                deleteBeforeReplace=bool(replaces) and diff.delete_first(behaviour, self._account, request.id, new),
                hasDetailedDiff=True,
                detailedDiff={
                    change.path: provider_pb2.PropertyDiff(kind=_KINDS[change.kind, change.replaces], inputDiff=True)
                    for change in found
                },
            )

    def Create(self, request: Any, context: Any) -> Any:
        """Create a resource; in a preview, tell what can be told of its outputs."""
        with _reported(context):
            behaviour = behaviours.find(self._cloud, request.type)
            inputs = decode(request.properties)
            if request.preview:
                outputs = self._preview(behaviour, inputs, {}, {})
                return provider_pb2.CreateResponse(id="", properties=encode(conceal_like(outputs, inputs)))
            injections.apply(self._folder, request.type, "create", self._cancelled)
            resource_id, outputs = self._create(request, behaviour, unwrap(inputs))
            return provider_pb2.CreateResponse(id=resource_id, properties=encode(conceal_like(outputs, inputs)))

    def Read(self, request: Any, context: Any) -> Any:
        """Return a resource as the cloud holds it; an empty id says that it is gone."""
        with _reported(context):
            behaviours.find(self._cloud, request.type)
            injections.apply(self._folder, request.type, "read", self._cancelled)
            held = self._client.read(self._resource(request, request.id, {}, {}))
            if held is None:
                return provider_pb2.ReadResponse()
            known_inputs, known_outputs = decode(request.inputs), decode(request.properties)
            inputs = archives.restore_assets(held.inputs, unwrap(known_inputs))
            outputs = archives.restore_assets(held.outputs, unwrap(known_outputs))
            return provider_pb2.ReadResponse(
                id=request.id,
                properties=encode(conceal_like(outputs, known_outputs)),
                inputs=encode(conceal_like(inputs, known_inputs)),
            )

    def Update(self, request: Any, context: Any) -> Any:
        """Bring a resource in line in place; in a preview, tell what can be told of its outputs."""
        with _reported(context):
            behaviour = behaviours.find(self._cloud, request.type)
            inputs, old_inputs = decode(request.news), unwrap(decode(request.old_inputs))
            old_outputs = unwrap(decode(request.olds))
            if request.preview:
                outputs = self._preview(behaviour, inputs, old_inputs, old_outputs, request.id)
                return provider_pb2.UpdateResponse(properties=encode(conceal_like(outputs, inputs)))
            injections.apply(self._folder, request.type, "update", self._cancelled)
            plain = unwrap(inputs)
            token = hashed(request.urn)
            scope = Scope(plain, self._account, token, request.id, {}, old_inputs, old_outputs)
            outputs = behaviour.compute(scope)
            stored = self._resource(request, request.id, self._stored(plain), self._stored(outputs))
            outputs |= _revealed(stored, self._client.update(stored, archives.describe_assets(old_inputs)))
            return provider_pb2.UpdateResponse(properties=encode(conceal_like(outputs, inputs)))

    def Delete(self, request: Any, context: Any) -> Any:
        """Delete a resource; one that is gone already is deleted."""
        with _reported(context):
            injections.apply(self._folder, request.type, "delete", self._cancelled)
            self._client.delete(self._resource(request, request.id, {}, {}))
            return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        """Refuse provider functions: nothing on the way of a failover may look a cloud up."""
        with _reported(context):
            raise UnknownTypeError(
                f"the local {self._cloud} provider has no function {request.tok}: put what it would return into the"
                " stack's configuration, so that a deployment needs no look-up while a cloud is lost"
            )

    def Cancel(self, request: Any, context: Any) -> Any:
        """Cut injected delays short; operations under way are left to end."""
        self._cancelled.set()
        return empty_pb2.Empty()

    @property
    def _client(self) -> CloudClient:
        return self._connected()[0]

    @property
    def _folder(self) -> Path:
        return self._connected()[1]

    def _connected(self) -> tuple[CloudClient, Path]:
        if self._connection is None:
            raise ProviderError(f"the {self._cloud} provider was used before the engine configured it")
        return self._connection

    def _create(self, request: ResourceRequest, behaviour: Behaviour, inputs: Properties) -> tuple[str, Properties]:
        stored_inputs = self._stored(inputs)
        for attempt in range(ID_ATTEMPTS):
            token = hashed(request.urn if attempt == 0 else f"{request.urn}#{attempt}")
            resource_id = behaviour.identify(Scope(inputs, self._account, token))
            assert not isinstance(resource_id, Unknown), "the engine creates only when all inputs are known"
            outputs = behaviour.compute(Scope(inputs, self._account, token, resource_id))
            resource = self._resource(request, resource_id, stored_inputs, self._stored(outputs))
            try:
                answer = self._client.create(resource)
            except AlreadyExistsError:
                if not behaviour.opaque:
                    raise
            else:
                return resource_id, outputs | _revealed(resource, answer)
        raise AlreadyExistsError(
            f'{request.type} "{request.name}" was not created: {ID_ATTEMPTS} ids drawn for it are all taken;'
            " run pulumi refresh, as leftovers of earlier runs seem to be in the ground"
        )

    def _preview(
        self, behaviour: Behaviour, inputs: Properties, old_inputs: Properties, old: Properties, id: str | None = None
    ) -> Properties:
        plain = unwrap(inputs)
        known_id = id or (None if behaviour.opaque else behaviour.identify(Scope(plain, self._account)))
        scope = Scope(
            plain, self._account, None, None if isinstance(known_id, Unknown) else known_id, {}, old_inputs, old
        )
        return behaviour.compute(scope)

    def _stored(self, values: Properties) -> Properties:
        stored: Properties = archives.store_assets(values, self._folder / "archives")
        return stored

    def _resource(
        self, request: ResourceRequest, resource_id: str, inputs: Properties, outputs: Properties
    ) -> Resource:
        return Resource(self._cloud.value, request.type, resource_id, request.name, request.urn, inputs, outputs)


@contextmanager
def _reported(context: Any) -> Iterator[None]:
    """Turn a ProviderError into the call's error, which the engine prints as it is, without a trace."""
    try:
        yield
    except ProviderError as error:
        context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _revealed(sent: Resource, answer: Properties) -> Properties:
    """Return the outputs that the cloud knows and the table can't: what its answer has beyond or besides what was sent."""
    return {name: value for name, value in answer.items() if sent.outputs.get(name) != value}


def _digits(seed: bytes) -> Callable[[int], str]:
    """Return a source of hexadecimal digits: the engine's seed where it sends one, so that retries name alike."""
    if seed:
        return lambda count: hashlib.sha256(seed).hexdigest()[:count]
    return lambda count: secrets.token_hex(count)[:count]


def _config(request: Any) -> Properties:
    """Return the provider's configuration; all but strings arrive as JSON texts."""
    config: Properties = {}
    for name, value in unwrap(decode(request.args)).items():
        config[name] = value
        if isinstance(value, str):
            try:
                parsed = json.loads(value)
            except ValueError:
                continue
            if isinstance(parsed, bool | dict | list):
                config[name] = parsed
    return config


def _account(cloud: Cloud, config: Properties) -> Account:
    region = str(config.get("region") or "")
    tags = (config.get("defaultTags") or {}).get("tags") if cloud is Cloud.AWS else config.get("defaultLabels")
    return Account(
        region=region,
        zone=str(config.get("zone") or ""),
        account=AWS_ACCOUNT,
        project=str(config.get("project") or ""),
        number=GOOGLE_PROJECT_NUMBER,
        default_tags=dict(tags or {}),
    )
