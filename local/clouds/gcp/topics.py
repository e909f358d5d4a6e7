"""Pub/Sub topics and subscriptions as the program makes them; push subscriptions are handed to the push driver."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from local.clouds.context import CloudContext
from local.clouds.errors import ActorError, UnsupportedError
from local.clouds.gcp.delivery import DeliveryPolicy, Message
from local.clouds.gcp.envelopes import Envelope, push_envelope
from local.clouds.gcp.errors import InvocationError
from local.clouds.gcp.functions import FunctionHost
from local.clouds.gcp.instances import FunctionRequest
from local.clouds.gcp.pubsub import PubSub, subscription_settings
from local.clouds.gcp.push import PushDriver, PushSubscription, Target
from local.clouds.gcp.resources import SUBSCRIPTION, TOPIC, full_name, properties, required, topic_name
from local.state import Resource

# The driver acknowledges as soon as a message is in its spool, so this only bounds how long a kill in between hides it.
EMULATOR_ACK_SECONDS = 10
DEFAULT_ACK_SECONDS = 10
# How many pushes run at once to an endpoint that is no function of this cloud.
FOREIGN_CAPACITY = 100
# The longest acknowledgement deadline there is; each subscription's own is kept by the driver.
FOREIGN_SECONDS = 600.0
FUNCTION_TYPE = "gcp:cloudfunctionsv2/function:Function"
# Delivery kinds of a subscription that nothing in the local cloud carries out.
UNSUPPORTED = ("bigqueryConfig", "cloudStorageConfig", "bigtableConfig")


class TopicActor:
    """gcp.pubsub.Topic."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub

    async def ensure(self, resource: Resource) -> None:
        """Create the topic."""
        await self._pubsub.ensure_topic(full_name(resource, TOPIC))

    async def remove(self, resource: Resource) -> None:
        """Delete the topic; its subscriptions stay and get nothing more, as on Google Cloud."""
        await self._pubsub.delete_topic(full_name(resource, TOPIC))


class SubscriptionActor:
    """gcp.pubsub.Subscription."""

    def __init__(self, pubsub: PubSub, driver: PushDriver, endpoints: "PushEndpoints") -> None:
        self._pubsub = pubsub
        self._driver = driver
        self._endpoints = endpoints

    async def ensure(self, resource: Resource) -> None:
        """Create the subscription and, when it pushes, serve it."""
        name, given = full_name(resource, SUBSCRIPTION), properties(resource)
        for key in UNSUPPORTED:
            if given.get(key):
                raise UnsupportedError(
                    f"subscription {name} sets {key}, which the local cloud does not deliver; use a push"
                )
        topic = topic_name(resource, str(required(resource, "topic")), f"subscription {name}: topic")
        push = given.get("pushConfig") or {}
        endpoint = str(push.get("pushEndpoint") or "")
        policy = DeliveryPolicy.of_subscription(given)
        deadline = int(given.get("ackDeadlineSeconds") or DEFAULT_ACK_SECONDS)
        # The emulator never gets a push subscription's dead letter policy: it counts attempts over all subscriptions of
        # a topic together, and its dead letters carry no attributes.
        settings = subscription_settings(
            push_endpoint=endpoint,
            filter_text=str(given.get("filter") or ""),
            ordered=policy.ordered,
            ack_deadline_seconds=EMULATOR_ACK_SECONDS if endpoint else deadline,
            dead_letter_topic="" if endpoint else policy.dead_letter_topic or "",
            maximum_attempts=policy.maximum_attempts,
        )

        async def make() -> None:
            await self._pubsub.ensure_subscription(name, topic, settings)

        await make()
        if not endpoint:
            await self._driver.end(name)
            return
        if push.get("noWrapper"):
            raise UnsupportedError(
                f"subscription {name} sets pushConfig.noWrapper; the local cloud pushes wrapped messages"
            )
        target = self._endpoints.target(endpoint, name, policy.dead_letter_topic is not None)
        await self._driver.serve(PushSubscription(name, policy, target, float(deadline)), make)

    async def remove(self, resource: Resource) -> None:
        """Delete the subscription and the messages that it holds."""
        name = full_name(resource, SUBSCRIPTION)
        await self._driver.end(name)
        await self._pubsub.delete_subscription(name)


class PushEndpoints:
    """Sends pushes to URLs: to functions of this cloud directly, to anything else over the ground's internet."""

    def __init__(self, context: CloudContext, host: FunctionHost) -> None:
        self._host = host
        self._context = context
        # Addressed as plain HTTP: the ground's internet knows hostnames, and the emulators have no certificates.
        self._client = httpx.AsyncClient(
            proxy=context.ground.endpoints.probe_proxy, timeout=FOREIGN_SECONDS, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def target(self, url: str, subscription: str, dead_lettered: bool) -> Target:
        """Return the target of a push subscription. Raises ActorError when the URL has no hostname."""
        parts = urlsplit(url)
        hostname = parts.hostname
        if hostname is None or parts.scheme not in ("http", "https"):
            raise ActorError(f"subscription {subscription}: pushEndpoint {url!r} is no http or https URL")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

        def envelope(message: Message, attempt: int) -> Envelope:
            return push_envelope(message, subscription, attempt if dead_lettered else None)

        async def send(pushed: Envelope) -> int:
            if self._host.hosts(hostname):
                request = FunctionRequest("POST", path, {"host": hostname, **pushed.headers}, pushed.body)
                return (await self._host.invoke(hostname, request)).status
            return await self._send_out(parts._replace(scheme="http").geturl(), pushed.headers, pushed.body)

        def capacity() -> int:
            if self._host.hosts(hostname):
                return self._host.capacity(hostname)
            return 0 if self._expected(hostname) else FOREIGN_CAPACITY

        return Target(envelope, send, capacity, url)

    def _expected(self, hostname: str) -> bool:
        """Tell whether a stored function of that name is not up yet, as after a start: its pushes wait, uncounted."""
        rows = self._context.store.list(self._context.cloud.value, FUNCTION_TYPE)
        return any(urlsplit(str(row.outputs.get("url"))).hostname == hostname for row in rows)

    async def _send_out(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            return (await self._client.post(url, headers=dict(headers), content=body)).status_code
        except httpx.HTTPError as error:
            raise InvocationError(f"{url} does not answer ({str(error) or type(error).__name__})", 503) from error
