"""Size, order of leaving, and roll-outs, played through with virtual instances."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.clouds.fleet.bound import BOUND_VARIABLE, INSTANCES_AT_LEAST, host_bound
from local.clouds.fleet.plan import (
    RESTART_LIMIT_SECONDS,
    ROLLOUT_READY_LIMIT_SECONDS,
    InstanceView,
    next_step,
    restart_delay_seconds,
)


def view(identity: str, template: str = "t1", created: float = 0.0, ready: bool = True) -> InstanceView:
    return InstanceView(identity, template, created, ready, created if ready else None)


@dataclass
class Played:
    """A fleet in virtual time: what is launched becomes ready one second later."""

    instances: list[InstanceView] = field(default_factory=list)
    now: float = 0.0
    made: int = 0
    least_ready: int = 10**6
    most: int = 0

    def run(self, wanted: int, template: str, roll: bool = True, steps: int = 60) -> None:
        for _ in range(steps):
            step = next_step(self.instances, wanted, template, roll, self.now)
            self.instances = [i for i in self.instances if i.id not in step.retire]
            self.least_ready = min(self.least_ready, sum(i.ready for i in self.instances))
            for _ in range(step.launch):
                self.made += 1
                self.instances.append(view(f"i{self.made}", template, self.now, ready=False))
            self.most = max(self.most, len(self.instances))
            self.now += 1
            self.instances = [
                replace(i, ready=True, healthy_since_seconds=i.created_seconds + 1)
                if i.created_seconds < self.now
                else i
                for i in self.instances
            ]


def test_scale_out_and_in() -> None:
    fleet = Played()
    fleet.run(3, "t1")
    assert len(fleet.instances) == 3
    fleet.run(1, "t1")
    assert [i.id for i in fleet.instances] == ["i1"]
    fleet.run(0, "t1")
    assert fleet.instances == []


def test_scale_in_takes_the_unready_then_the_newest() -> None:
    instances = [view("old", created=1), view("new", created=9), view("sick", created=0, ready=False)]
    assert next_step(instances, 2, "t1", True, 10).retire == ("sick",)
    assert next_step(instances, 1, "t1", True, 10).retire == ("sick", "new")


def test_rollout_never_serves_with_fewer_and_adds_one() -> None:
    fleet = Played()
    fleet.run(3, "t1")
    fleet.least_ready = fleet.most = 3
    fleet.run(3, "t2")
    assert {i.template for i in fleet.instances} == {"t2"} and len(fleet.instances) == 3
    assert fleet.least_ready == 3 and fleet.most == 4


def test_without_rollout_old_instances_stay() -> None:
    fleet = Played()
    fleet.run(2, "t1")
    fleet.run(2, "t2", roll=False)
    assert {i.template for i in fleet.instances} == {"t1"}
    fleet.run(3, "t2", roll=False)
    assert sorted(i.template for i in fleet.instances) == ["t1", "t1", "t2"]


def test_rollout_goes_on_when_a_healthy_instance_stays_unready() -> None:
    stuck = InstanceView("new", "t2", 5.0, ready=False, healthy_since_seconds=6.0)
    instances = [view("a"), view("b"), stuck]
    assert next_step(instances, 2, "t2", True, 7.0).retire == ()
    assert len(next_step(instances, 2, "t2", True, 6.0 + ROLLOUT_READY_LIMIT_SECONDS).retire) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["t1", "t2", "t3"]), st.booleans()), max_size=5))
def test_always_arrives(changes: list[tuple[int, str, bool]]) -> None:
    fleet = Played()
    for wanted, template, roll in changes:
        fleet.run(wanted, template, roll)
        assert len(fleet.instances) == wanted
        assert not roll or all(i.template == template for i in fleet.instances)


def test_restart_delay_grows_to_its_limit() -> None:
    delays = [restart_delay_seconds(deaths) for deaths in range(1, 40)]
    assert delays == sorted(delays) and delays[0] < 1 and delays[-1] == RESTART_LIMIT_SECONDS


def test_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BOUND_VARIABLE, raising=False)
    assert host_bound() >= INSTANCES_AT_LEAST
    monkeypatch.setenv(BOUND_VARIABLE, "1")
    assert host_bound() == 1
