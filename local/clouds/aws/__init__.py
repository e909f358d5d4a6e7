"""AWS on this machine: S3, SQS and DynamoDB on their emulators, Lambda and its event sources, fleets."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from local.clouds import redis
from local.clouds.actor import Actor
from local.clouds.aws.buckets import (
    BucketActor,
    BucketEncryptionActor,
    BucketNotificationActor,
    BucketPublicAccessBlockActor,
    BucketVersioningActor,
)
from local.clouds.aws.clients import AwsClients
from local.clouds.aws.event_sources.mappings import EventSourceMappings
from local.clouds.aws.keys import ALIAS_TYPE, KEY_TYPE, AliasActor, KeyActor
from local.clouds.aws.lambda_host.host import FunctionActor, LambdaHost
from local.clouds.aws.lambda_host.runtime import PAYLOAD_BYTES_LIMIT
from local.clouds.aws.queues import QueueActor, QueueSettingActor
from local.clouds.aws.schedules import SCHEDULE_TYPE, ScheduleActor
from local.clouds.aws.tables import TableActor
from local.clouds.aws.user_database import CLUSTER_TYPE, INVOCATION_TYPE, InvocationActor, UserDatabases
from local.clouds.context import CloudContext
from local.clouds.errors import FunctionNotFoundError, ThrottledError
from local.clouds.fleet import aws as fleet
from local.clouds.ticker import tick_route


def actors(context: CloudContext) -> dict[str, Actor]:
    """Return the types that AWS makes real here; every other type is only recorded."""
    clients = context.part(AwsClients)
    return {
        "aws:s3/bucket:Bucket": BucketActor(clients),
        "aws:s3/bucketVersioning:BucketVersioning": BucketVersioningActor(clients),
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": (
            BucketEncryptionActor(clients)
        ),
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": BucketPublicAccessBlockActor(clients),
        "aws:s3/bucketNotification:BucketNotification": BucketNotificationActor(clients),
        "aws:sqs/queue:Queue": QueueActor(clients),
        "aws:sqs/queuePolicy:QueuePolicy": QueueSettingActor(clients, "policy"),
        "aws:sqs/redrivePolicy:RedrivePolicy": QueueSettingActor(clients, "redrivePolicy"),
        "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy": QueueSettingActor(clients, "redriveAllowPolicy"),
        KEY_TYPE: KeyActor(clients),
        ALIAS_TYPE: AliasActor(clients),
        "aws:dynamodb/table:Table": TableActor(clients),
        "aws:lambda/function:Function": FunctionActor(context),
        "aws:lambda/eventSourceMapping:EventSourceMapping": context.part(EventSourceMappings),
        SCHEDULE_TYPE: context.part(ScheduleActor),
        CLUSTER_TYPE: context.part(UserDatabases),
        INVOCATION_TYPE: InvocationActor(context),
        redis.AWS_TYPE: redis.RedisActor(context, redis.on_aws),
        **fleet.actors(context),
    }


def routes(context: CloudContext) -> list[BaseRoute]:
    """Return the routes to invoke functions and to read what they did."""
    host, mappings, schedules = context.part(LambdaHost), context.part(EventSourceMappings), context.part(ScheduleActor)

    async def statistics(_: Request) -> JSONResponse:
        return JSONResponse(
            {
                "functions": host.statistics(),
                "event_sources": mappings.statistics(),
                "schedules": schedules.statistics(),
            }
        )

    async def invoke(request: Request) -> Response:
        payload = await request.body() or b"{}"
        if len(payload) > PAYLOAD_BYTES_LIMIT:
            return JSONResponse(
                {"error": f"event of {len(payload)} bytes; limit {PAYLOAD_BYTES_LIMIT}"}, status_code=413
            )
        try:
            invocation = await host.invoke(request.path_params["name"], payload)
        except FunctionNotFoundError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except ThrottledError as error:
            return JSONResponse({"error": str(error)}, status_code=429)
        # A failed function is an answered call (docs.aws.amazon.com/lambda/latest/api/API_Invoke.html).
        headers = {} if invocation.succeeded else {"X-Amz-Function-Error": "Unhandled"}
        return Response(invocation.payload, media_type="application/json", headers=headers)

    return [
        Route("/functions/statistics", statistics),
        Route("/functions/{name}/invoke", invoke, methods=["POST"]),
        tick_route(schedules.ticker),
        *fleet.routes(context),
    ]


async def stop(context: CloudContext) -> None:
    """Stop pollers first, then what they feed."""
    await context.part(ScheduleActor).ticker.stop()
    await context.part(EventSourceMappings).stop()
    await context.part(UserDatabases).stop()
    await fleet.stop(context)
    await context.part(LambdaHost).stop()
