"""Functions as the program deploys them, and the Eventarc plumbing behind an event trigger.

Eventarc keeps a subscription of its own on the trigger's topic, and for a storage event also the topic and the bucket's
notification (https://cloud.google.com/eventarc/docs/run/route-trigger-cloud-storage). The names are made from the
function's, so that every ensure finds them again. Eventarc's Pub/Sub acknowledgement deadline is the platform's
longest; what ends a delivery is the function's own time limit.
"""

from local.clouds.gcp.delivery import DeliveryPolicy, Message
from local.clouds.gcp.envelopes import STORAGE_EVENTS, Envelope, pubsub_event, storage_event
from local.clouds.gcp.function_settings import FunctionSettings, Trigger
from local.clouds.gcp.functions import FunctionHost
from local.clouds.gcp.instances import QUEUE_SECONDS, FunctionRequest
from local.clouds.gcp.pubsub import PubSub, subscription_settings
from local.clouds.gcp.push import PushDriver, PushSubscription, Target
from local.clouds.gcp.storage import Storage, notification_config
from local.clouds.gcp.topics import EMULATOR_ACK_SECONDS
from local.state import Resource


class FunctionActor:
    """gcp.cloudfunctionsv2.Function."""

    def __init__(self, host: FunctionHost, pubsub: PubSub, storage: Storage, driver: PushDriver) -> None:
        self._host = host
        self._pubsub = pubsub
        self._storage = storage
        self._driver = driver
        self._triggers: dict[str, Trigger] = {}

    async def ensure(self, resource: Resource) -> None:
        """Deploy the function, then connect its trigger: events wait in the subscription until it is up."""
        settings = FunctionSettings.of(resource)
        await self._host.deploy(settings)
        old = self._triggers.get(settings.id)
        if old is not None and old != settings.trigger:
            await self._disconnect(old)
        if settings.trigger is None:
            self._triggers.pop(settings.id, None)
        else:
            self._triggers[settings.id] = settings.trigger
            await self._connect(settings, settings.trigger)

    async def remove(self, resource: Resource) -> None:
        """Take the trigger off and end the function."""
        settings = FunctionSettings.of(resource)
        self._triggers.pop(settings.id, None)
        if settings.trigger is not None:
            await self._disconnect(settings.trigger)
        await self._host.remove(settings.id)

    async def _connect(self, settings: FunctionSettings, trigger: Trigger) -> None:
        kept = subscription_settings(ack_deadline_seconds=EMULATOR_ACK_SECONDS)

        async def make() -> None:
            if trigger.owns_topic:
                await self._pubsub.ensure_topic(trigger.topic)
            await self._pubsub.ensure_subscription(trigger.subscription, trigger.topic, kept)
            if trigger.bucket is not None:
                await self._storage.ensure_notification(trigger.bucket, _notification(trigger))

        await make()
        subscription = PushSubscription(
            name=trigger.subscription,
            policy=DeliveryPolicy.of_trigger(trigger.retry),
            target=self._target(settings, trigger),
            limit_seconds=settings.timeout_seconds + QUEUE_SECONDS,
        )
        await self._driver.serve(subscription, make)

    async def _disconnect(self, trigger: Trigger) -> None:
        if trigger.bucket is not None:
            await self._storage.delete_notification(trigger.bucket, _notification(trigger))
        await self._driver.end(trigger.subscription)
        await self._pubsub.delete_subscription(trigger.subscription)
        if trigger.owns_topic:
            await self._pubsub.delete_topic(trigger.topic)

    def _target(self, settings: FunctionSettings, trigger: Trigger) -> Target:
        hostname = settings.hostname

        def envelope(message: Message, attempt: int) -> Envelope:
            if trigger.bucket is not None:
                return storage_event(message, trigger.event_type, trigger.bucket)
            return pubsub_event(message, trigger.subscription, trigger.topic)

        async def send(event: Envelope) -> int:
            request = FunctionRequest("POST", "/", {"host": hostname, **event.headers}, event.body)
            return (await self._host.invoke(hostname, request)).status

        return Target(envelope, send, lambda: self._host.capacity(hostname), settings.name)


def _notification(trigger: Trigger) -> dict[str, object]:
    # The attribute tells this notification from one that the program itself makes with the same content.
    return notification_config(
        topic=trigger.topic,
        event_types=[STORAGE_EVENTS[trigger.event_type]],
        attributes={"eventarc-subscription": trigger.subscription.rpartition("/")[2]},
    )
