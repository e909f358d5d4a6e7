"""Which message is next, as a state machine against a plain model."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from local.clouds.gcp.backlog import Backlog, Entry
from local.clouds.gcp.delivery import Message


class BacklogMachine(RuleBasedStateMachine):
    """Adds, takes, settles and postpones at random; the model is every entry's state by ordinal."""

    @initialize(ordered=st.booleans())
    def begin(self, ordered: bool) -> None:
        self.ordered = ordered
        self.backlog = Backlog(ordered)
        self.now = 0.0
        self.waiting: dict[int, Entry] = {}
        self.taken: dict[int, Entry] = {}
        self.settled: list[Entry] = []
        self.count = 0

    @rule(key=st.sampled_from(["", "a", "b"]))
    def add(self, key: str) -> None:
        self.count += 1
        entry = Entry(self.count, Message(f"m{self.count}", b"", {}, 0, key))
        self.waiting[entry.ordinal] = entry
        self.backlog.add(entry)

    @rule(step=st.floats(0, 5))
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule()
    def take(self) -> None:
        entry = self.backlog.take(self.now)
        allowed = self.allowed()
        if entry is None:
            assert not allowed
            return
        assert entry.ordinal in allowed
        self.taken[entry.ordinal] = self.waiting.pop(entry.ordinal)
        assert self.taken[entry.ordinal] == entry

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        entry = self.taken.pop(data.draw(st.sampled_from(sorted(self.taken))))
        self.backlog.settle(entry)
        self.settled.append(entry)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), delay=st.floats(0, 5))
    def postpone(self, data: st.DataObject, delay: float) -> None:
        entry = self.taken.pop(data.draw(st.sampled_from(sorted(self.taken))))
        attempts, due = entry.attempts + 1, self.now + delay
        self.backlog.postpone(entry, attempts, due)
        self.waiting[entry.ordinal] = Entry(entry.ordinal, entry.message, attempts, due)

    def allowed(self) -> set[int]:
        """Return what may be taken now: due, and under ordering the oldest unsettled of its key."""
        held = {**self.waiting, **self.taken}
        return {
            ordinal
            for ordinal, entry in self.waiting.items()
            if entry.due <= self.now
            and not (
                self.ordered
                and entry.message.ordering_key
                and any(
                    other < ordinal and one.message.ordering_key == entry.message.ordering_key
                    for other, one in held.items()
                )
            )
        }

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.backlog) == len(self.waiting) + len(self.taken)
        assert len(self.settled) + len(self.backlog) == self.count

    @invariant()
    def keys_are_settled_in_order(self) -> None:
        if not self.ordered:
            return
        for key in ("a", "b"):
            ordinals = [entry.ordinal for entry in self.settled if entry.message.ordering_key == key]
            assert ordinals == sorted(ordinals)

    @invariant()
    def next_due_is_when_a_take_succeeds(self) -> None:
        due = self.backlog.next_due()
        assert (due is not None and due <= self.now) == bool(self.allowed())


TestBacklog = BacklogMachine.TestCase
