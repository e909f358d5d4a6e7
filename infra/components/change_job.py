"""A job of one of Google's Dataflow templates that tells a database's changes to a topic, with the account that it runs as."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import dataflow, projects, serviceaccount

from infra.components.google_topic import GoogleTopic
from infra.settings import DataflowWorkers


@dataclass(frozen=True, kw_only=True)
class ChangeJobArgs:
    """The job's name, the id and title of its account, where it runs and on what, and the topic that it tells."""

    job: str
    account: str
    title: str
    project: str
    location: str
    workers: DataflowWorkers
    subnet: pulumi.Input[str]
    changes: GoogleTopic


class ChangeJob(pulumi.ComponentResource):
    """The account comes first, so that it can be given its rights on the database and on files; `run` then starts the job."""

    def __init__(self, name: str, args: ChangeJobArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:ChangeJob", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            f"{name}-account", account_id=args.account, display_name=args.title, opts=self._child
        )
        args.changes.published_by(f"{name}-publishes", account.member)
        self._works = projects.IAMMember(
            f"{name}-works",
            project=args.project,
            role="roles/dataflow.worker",
            member=account.member,
            opts=self._child,
        )
        self._email = account.email
        self.member: pulumi.Output[str] = account.member
        self.register_outputs({"member": self.member})

    def run(
        self,
        template: str,
        parameters: Mapping[str, pulumi.Input[str]],
        files: pulumi.Output[str],
        after: Sequence[pulumi.Resource],
    ) -> pulumi.Output[str]:
        """Start the job once `after`, its rights, are there; `files` is the folder for what it writes beside the topic.

        Returns the job's name.
        """
        args = self._args
        job = dataflow.FlexTemplateJob(
            f"{self._name}-template",
            name=args.job,
            project=args.project,
            region=args.location,
            container_spec_gcs_path=(
                f"gs://dataflow-templates-{args.location}/{args.workers.template_version}/flex/{template}"
            ),
            parameters=dict(parameters),
            service_account_email=self._email,
            machine_type=args.workers.machine_type,
            num_workers=args.workers.count,
            max_workers=args.workers.limit,
            enable_streaming_engine=True,
            subnetwork=args.subnet,
            ip_configuration="WORKER_IP_PRIVATE",
            temp_location=pulumi.Output.concat(files, "/temp"),
            staging_location=pulumi.Output.concat(files, "/staging"),
            # A job that drains would hold a destroy up for as long as its sink does not take what it read.
            on_delete="cancel",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*after, self._works, args.changes]),
        )
        return job.name
