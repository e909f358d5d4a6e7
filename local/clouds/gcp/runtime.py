"""Everything that runs in the Google cloud process, made once and shared by its actors and routes."""

from collections.abc import Mapping
from typing import Any

from local.clouds import redis
from local.clouds.actor import Actor
from local.clouds.context import CloudContext
from local.clouds.gcp.bigtable import GC_POLICY_TYPE, GcPolicyActor, TableActor, TableAdmin
from local.clouds.gcp.dataflow import JOB_TYPE, TEMPLATE, JobActor
from local.clouds.gcp.functions import FunctionHost
from local.clouds.gcp.keys import KEY_VERSION_TYPE, KeyVersionActor
from local.clouds.gcp.pubsub import PubSub
from local.clouds.gcp.push import PushDriver
from local.clouds.gcp.schedules import JOB_TYPE as SCHEDULE_TYPE
from local.clouds.gcp.schedules import ScheduleActor
from local.clouds.gcp.spanner import DATABASE_TYPE, INSTANCE_TYPE, DatabaseActor, InstanceActor, SpannerAdmin
from local.clouds.gcp.spanner_stream import TEMPLATE as SPANNER_TEMPLATE
from local.clouds.gcp.spanner_stream import SpannerJobActor
from local.clouds.gcp.spool import Spool
from local.clouds.gcp.storage import BucketActor, BucketObjectActor, NotificationActor, Storage
from local.clouds.gcp.templates import TemplateActor
from local.clouds.gcp.topics import FUNCTION_TYPE, PushEndpoints, SubscriptionActor, TopicActor
from local.clouds.gcp.triggers import FunctionActor


class Platform:
    """Clients of the emulators, the functions host and the push driver of one cloud process.

    All emulators are reached by their public addresses, so that every fault of the cloud is felt here too.
    """

    def __init__(self, context: CloudContext) -> None:
        endpoints = context.ground.endpoints
        self._context = context
        self.storage = Storage(endpoints.storage)
        self.pubsub = PubSub(endpoints.pubsub)
        self.tables = TableAdmin(endpoints.bigtable)
        self.host = FunctionHost(context, self.storage)
        self.spool = Spool(context.folder / "push.db", ground=str(context.ground.pid))
        self.driver = PushDriver(self.pubsub, self.spool)
        self.endpoints = PushEndpoints(context, self.host)
        self.schedules = ScheduleActor(self.host)
        self.keys = KeyVersionActor(context)
        self.jobs = JobActor(
            endpoints.bigtable, self.pubsub, self.storage, context.folder / "dataflow", ground=str(context.ground.pid)
        )

        self.spanner = SpannerAdmin(endpoints.spanner)
        self.spanner_jobs = SpannerJobActor(
            endpoints.spanner, self.pubsub, context.folder / "dataflow", ground=str(context.ground.pid)
        )

    def actors(self) -> dict[str, Actor]:
        """Return the actor of every type that is more than a record here."""
        store = self._context.store
        return {
            "gcp:storage/bucket:Bucket": BucketActor(self.storage),
            "gcp:storage/bucketObject:BucketObject": BucketObjectActor(self.storage),
            "gcp:storage/notification:Notification": NotificationActor(self.storage),
            "gcp:pubsub/topic:Topic": TopicActor(self.pubsub),
            "gcp:pubsub/subscription:Subscription": SubscriptionActor(self.pubsub, self.driver, self.endpoints),
            "gcp:bigtable/table:Table": TableActor(self.tables, store),
            GC_POLICY_TYPE: GcPolicyActor(self.tables, store),
            INSTANCE_TYPE: InstanceActor(self.spanner),
            DATABASE_TYPE: DatabaseActor(self.spanner),
            redis.GCP_TYPE: redis.RedisActor(self._context, redis.on_gcp),
            JOB_TYPE: TemplateActor({TEMPLATE: self.jobs, SPANNER_TEMPLATE: self.spanner_jobs}),
            SCHEDULE_TYPE: self.schedules,
            KEY_VERSION_TYPE: self.keys,
            FUNCTION_TYPE: FunctionActor(self.host, self.pubsub, self.storage, self.driver),
        }

    def statistics(self) -> Mapping[str, Any]:
        """Return what functions and push subscriptions have done since this process started."""
        return {
            "functions": self.host.statistics(),
            "subscriptions": self.driver.statistics(),
            "schedules": self.schedules.statistics(),
            "jobs": {**self.jobs.statistics(), **self.spanner_jobs.statistics()},
        }

    async def stop(self) -> None:
        """Stop schedules, jobs and deliveries first, then functions, then the connections."""
        await self.schedules.ticker.stop()
        await self.jobs.stop()
        await self.spanner_jobs.stop()
        await self.driver.stop()
        await self.host.stop()
        await self.endpoints.close()
        await self.storage.close()
        await self.pubsub.close()
        await self.tables.close()
        await self.spanner.close()
        self.spool.close()
