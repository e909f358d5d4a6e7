"""Clocks: EventBridge Scheduler calls a function on Lambda, Cloud Scheduler one on Cloud Run. Neither sends more than `{}`."""

import base64
from dataclasses import dataclass

import pulumi
from pulumi_aws import iam, scheduler
from pulumi_gcp import cloudscheduler

from infra.components.aws_function import AwsFunction
from infra.components.google_function import GoogleFunction
from infra.rights import Statement, assumed_by, policy

BODY = base64.b64encode(b"{}").decode()


@dataclass(frozen=True, kw_only=True)
class AwsScheduleArgs:
    """`schedule` is the schedule's name, `expression` such as rate(5 minutes)."""

    schedule: str
    expression: str
    function: AwsFunction


class AwsSchedule(pulumi.ComponentResource):
    """A schedule and the role that it calls its function with."""

    def __init__(self, name: str, args: AwsScheduleArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:schedules:AwsSchedule", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        role = iam.Role(
            f"{name}-role",
            name=f"{args.schedule}-clock",
            assume_role_policy=assumed_by("scheduler.amazonaws.com"),
            opts=child,
        )
        rights = iam.RolePolicy(
            f"{name}-rights",
            name="calls",
            role=role.name,
            policy=policy(Statement(actions=["lambda:InvokeFunction"], resources=[args.function.arn])),
            opts=child,
        )
        scheduler.Schedule(
            f"{name}-schedule",
            name=args.schedule,
            schedule_expression=args.expression,
            flexible_time_window={"mode": "OFF"},
            target={"arn": args.function.arn, "role_arn": role.arn, "input": "{}"},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[rights]),
        )
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class GoogleScheduleArgs:
    """`schedule` is the job's name, `cron` its times in UTC, `location` the region that it runs in."""

    schedule: str
    cron: str
    project: str
    location: str
    function: GoogleFunction
    deadline_seconds: int


class GoogleSchedule(pulumi.ComponentResource):
    """A job that calls its function as the function's own account, which nobody else may."""

    def __init__(self, name: str, args: GoogleScheduleArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:schedules:GoogleSchedule", name, None, opts)
        args.function.invoked_by("clock", args.function.member)
        cloudscheduler.Job(
            f"{name}-job",
            name=args.schedule,
            project=args.project,
            region=args.location,
            schedule=args.cron,
            time_zone="Etc/UTC",
            attempt_deadline=f"{args.deadline_seconds}s",
            http_target={
                "uri": args.function.uri,
                "http_method": "POST",
                "headers": {"Content-Type": "application/json"},
                "body": BODY,
                "oidc_token": {"service_account_email": args.function.email, "audience": args.function.uri},
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
