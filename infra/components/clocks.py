"""Clocks: what is called at fixed times, by each cloud's own scheduler, as an identity that may do nothing else."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import iam, scheduler
from pulumi_gcp import cloudscheduler

from infra.components.aws_function import AwsFunction
from infra.components.google_function import GoogleFunction
from infra.rights import Statement, assumed_by, policy


@dataclass(frozen=True, kw_only=True)
class AwsClockArgs:
    """`clock` names the schedule and its role; `expression` is a rate or cron expression of EventBridge Scheduler."""

    clock: str
    function: AwsFunction
    expression: str


class AwsClock(pulumi.ComponentResource):
    """A schedule that calls one Lambda function with an empty event."""

    def __init__(self, name: str, args: AwsClockArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:clocks:AwsClock", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        role = iam.Role(
            f"{name}-role",
            name=f"{args.clock}-clock",
            assume_role_policy=assumed_by("scheduler.amazonaws.com"),
            opts=child,
        )
        rights = iam.RolePolicy(
            f"{name}-calls",
            name="calls",
            role=role.name,
            policy=policy(Statement(actions=["lambda:InvokeFunction"], resources=[args.function.arn])),
            opts=child,
        )
        schedule = scheduler.Schedule(
            f"{name}-schedule",
            name=args.clock,
            schedule_expression=args.expression,
            flexible_time_window={"mode": "OFF"},
            target={
                "arn": args.function.arn,
                "role_arn": role.arn,
                "input": "{}",
                # A call that failed is made up for by the next one, which looks at the state as it then is.
                "retry_policy": {"maximum_retry_attempts": 0},
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[rights]),
        )
        self.register_outputs({"schedule": schedule.name})


@dataclass(frozen=True, kw_only=True)
class GoogleClockArgs:
    """`clock` names the job; `expression` is one of unix cron, in UTC."""

    clock: str
    location: str
    function: GoogleFunction
    expression: str
    deadline_seconds: int


class GoogleClock(pulumi.ComponentResource):
    """A job that posts an empty object to one Cloud Run function, with a token of the function's own account."""

    def __init__(self, name: str, args: GoogleClockArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:clocks:GoogleClock", name, None, opts)
        args.function.invoked_by("clock", args.function.member)
        job = cloudscheduler.Job(
            f"{name}-job",
            name=args.clock,
            region=args.location,
            schedule=args.expression,
            time_zone="Etc/UTC",
            attempt_deadline=f"{args.deadline_seconds}s",
            http_target={
                "uri": args.function.uri,
                "http_method": "POST",
                # {} in base64.
                "body": "e30=",
                "headers": {"Content-Type": "application/json"},
                "oidc_token": {"service_account_email": args.function.email, "audience": args.function.uri},
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"job": job.name})
