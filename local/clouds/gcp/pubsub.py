"""A thin asynchronous Pub/Sub client for the control plane and the push driver.

Plain unary calls on Google's message types. The client library is not used: its subscriber pulls by stream, which the
emulator serves at 90 messages a second, and both its halves retry in silence for minutes while a cloud is cut off.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1.types import pubsub

from local.clouds.errors import ActorError
from local.clouds.gcp.delivery import Message
from local.clouds.gcp.errors import PubSubUnreachableError, SubscriptionMissingError

CALL_SECONDS = 5.0
PULL_SECONDS = 5.0
MAXIMUM_MESSAGE_BYTES = 64 << 20
# A cut connection must come back as soon as the cloud does; gRPC's own default grows to two minutes.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", MAXIMUM_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAXIMUM_MESSAGE_BYTES),
    # A renewed channel must open a connection of its own and not inherit the one that hangs.
    ("grpc.use_local_subchannel_pool", 1),
)
# What an emulator that is cut off or hangs answers with.
UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

# The raw classes below proto-plus: no wrapper object a message.
_Topic = pubsub.Topic.pb()
_GetTopicRequest = pubsub.GetTopicRequest.pb()
_DeleteTopicRequest = pubsub.DeleteTopicRequest.pb()
_PublishRequest = pubsub.PublishRequest.pb()
_PublishResponse = pubsub.PublishResponse.pb()
_Subscription = pubsub.Subscription.pb()
_GetSubscriptionRequest = pubsub.GetSubscriptionRequest.pb()
_UpdateSubscriptionRequest = pubsub.UpdateSubscriptionRequest.pb()
_DeleteSubscriptionRequest = pubsub.DeleteSubscriptionRequest.pb()
_PullRequest = pubsub.PullRequest.pb()
_PullResponse = pubsub.PullResponse.pb()
_AcknowledgeRequest = pubsub.AcknowledgeRequest.pb()


class PubSub:
    """Topics, subscriptions and messages of a Pub/Sub server at `host:port`. Belongs to one event loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._generation = 0
        self._calls: dict[str, Callable[..., Any]] = {}

    async def close(self) -> None:
        """Close the connection."""
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None:
            await channel.close()

    async def ensure_topic(self, name: str) -> None:
        """Create a topic; one that is there is left as it is."""
        try:
            await self._call("Publisher/CreateTopic", _Topic(name=name), _Topic)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise self._named(error, f"topic {name}") from error

    async def delete_topic(self, name: str) -> None:
        """Delete a topic; one that is not there is no error."""
        await self._delete("Publisher/DeleteTopic", _DeleteTopicRequest(topic=name), f"topic {name}")

    async def publish(self, topic: str, messages: Iterable[Message]) -> list[str]:
        """Publish messages and return their ids. Raises ActorError when the topic is not there."""
        request = _PublishRequest(topic=topic)
        for message in messages:
            request.messages.add(
                data=message.data, attributes=dict(message.attributes), ordering_key=message.ordering_key
            )
        try:
            answer = await self._call("Publisher/Publish", request, _PublishResponse)
        except grpc.aio.AioRpcError as error:
            raise self._named(error, f"publish to {topic}") from error
        return list(answer.message_ids)

    async def ensure_subscription(self, name: str, topic: str, settings: Any) -> None:
        """Create a subscription, or bring one that is there in line; moves it when its topic or filter differs.

        `settings` is a Subscription message; its name and topic are set here.
        """
        wanted = _Subscription()
        wanted.CopyFrom(settings)
        wanted.name, wanted.topic = name, topic
        what = f"subscription {name}"
        try:
            found = await self._found(name)
            if found is not None and (found.topic, found.filter) != (topic, wanted.filter):
                # Both are fixed for a subscription's life, and a topic that was made anew has lost its subscriptions.
                await self.delete_subscription(name)
                found = None
            if found is None:
                await self._call("Subscriber/CreateSubscription", wanted, _Subscription)
                return
            request = _UpdateSubscriptionRequest(subscription=wanted)
            request.update_mask.paths.extend(["push_config", "ack_deadline_seconds", "dead_letter_policy"])
            await self._call("Subscriber/UpdateSubscription", request, _Subscription)
        except grpc.aio.AioRpcError as error:
            raise self._named(error, what) from error

    async def delete_subscription(self, name: str) -> None:
        """Delete a subscription; one that is not there is no error."""
        request = _DeleteSubscriptionRequest(subscription=name)
        await self._delete("Subscriber/DeleteSubscription", request, f"subscription {name}")

    async def pull(self, subscription: str, maximum: int) -> tuple[list[Message], list[str]]:
        """Return up to `maximum` waiting messages and their acknowledgement ids, at once.

        Raises SubscriptionMissingError or PubSubUnreachableError.
        """
        # The emulator's waiting Pull sleeps half a second whatever arrives meanwhile; asking again is faster.
        request = _PullRequest(subscription=subscription, max_messages=maximum, return_immediately=True)
        generation = self._generation
        try:
            answer = await self._call("Subscriber/Pull", request, _PullResponse, PULL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                await self._renew(generation)
            raise self._named(error, f"subscription {subscription}") from error
        received = answer.received_messages
        return [_message(one.message) for one in received], [one.ack_id for one in received]

    async def acknowledge(self, subscription: str, ids: list[str]) -> None:
        """Acknowledge pulled messages. Raises PubSubUnreachableError; they are then delivered again."""
        request = _AcknowledgeRequest(subscription=subscription, ack_ids=ids)
        try:
            await self._call("Subscriber/Acknowledge", request, Empty)
        except grpc.aio.AioRpcError as error:
            raise self._named(error, f"subscription {subscription}") from error

    async def _found(self, name: str) -> Any | None:
        try:
            return await self._call(
                "Subscriber/GetSubscription", _GetSubscriptionRequest(subscription=name), _Subscription
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    async def _delete(self, method: str, request: Any, what: str) -> None:
        try:
            await self._call(method, request, Empty)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise self._named(error, what) from error

    async def _call(self, method: str, request: Any, answer: Any, limit_seconds: float = CALL_SECONDS) -> Any:
        call = self._calls.get(method)
        if call is None:
            if self._channel is None:
                self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
            call = self._channel.unary_unary(
                f"/google.pubsub.v1.{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            self._calls[method] = call
        return await call(request, timeout=limit_seconds)

    async def _renew(self, generation: int) -> None:
        """Leave a connection that hangs, once for all callers that saw it hang."""
        if generation == self._generation:
            self._generation += 1
            channel, self._channel = self._channel, None
            self._calls = {}
            if channel is not None:
                # Calls of other subscriptions on the old channel end by themselves within their limit.
                asyncio.get_running_loop().call_later(2 * CALL_SECONDS, _close_later, channel)

    def _named(self, error: grpc.aio.AioRpcError, what: str) -> ActorError:
        if error.code() is grpc.StatusCode.NOT_FOUND and what.startswith("subscription"):
            return SubscriptionMissingError(f"{what} is not there: {error.details()}")
        if error.code() in UNREACHABLE:
            return PubSubUnreachableError(
                f"{what}: Pub/Sub at {self._address} does not answer ({error.code().name}: {error.details()});"
                " see whether the cloud is cut off: ./lifeboat local status"
            )
        return ActorError(f"{what}: Pub/Sub refused with {error.code().name}: {error.details()}")


_closing: set[asyncio.Task[None]] = set()


def _close_later(channel: grpc.aio.Channel) -> None:
    task = asyncio.ensure_future(channel.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


def _message(raw: Any) -> Message:
    return Message(
        id=raw.message_id,
        data=raw.data,
        attributes=dict(raw.attributes),
        publish_time_ns=raw.publish_time.ToNanoseconds(),
        ordering_key=raw.ordering_key,
    )


def subscription_settings(
    *,
    push_endpoint: str = "",
    filter_text: str = "",
    ordered: bool = False,
    ack_deadline_seconds: int = 10,
    dead_letter_topic: str = "",
    maximum_attempts: int = 0,
) -> Any:
    """Return a Subscription message with what the emulator acts on or a reader of it may look at."""
    settings = _Subscription(
        filter=filter_text, enable_message_ordering=ordered, ack_deadline_seconds=ack_deadline_seconds
    )
    if push_endpoint:
        settings.push_config.push_endpoint = push_endpoint
    if dead_letter_topic:
        settings.dead_letter_policy.dead_letter_topic = dead_letter_topic
        settings.dead_letter_policy.max_delivery_attempts = maximum_attempts
    return settings
