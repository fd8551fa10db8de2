"""`ThreadTrial`: one thread goes on alone where threads slow each other down, and nowhere else. No test has a clock."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import pytest

from recordio.reader.workers.thread_trial import ThreadTrial


@dataclass
class Machine:
    """Threads that make batches in made-up times, one thread after the other.

    Attributes:
        together, alone: seconds that a batch takes its thread.
        cpu_together, cpu_alone: of these on a processor.
        at_work: how many threads are at work; all that may be if None.
        spent: seconds so far, with all threads and with one.
    """

    trial: ThreadTrial
    together: float
    alone: float
    cpu_together: float
    cpu_alone: float
    at_work: int | None = None
    spent: dict[int, float] = field(default_factory=dict)

    def make(self, batches: int) -> None:
        for _ in range(batches):
            limit = self.trial.limit
            seconds, cpu = (self.alone, self.cpu_alone) if limit == 1 else (self.together, self.cpu_together)
            self.spent[limit] = self.spent.get(limit, 0) + seconds / limit
            working = min(limit, self.at_work or limit)
            self.trial.add(working, working, seconds, cpu)

    def has_paused_threads(self) -> bool:
        return 1 in self.spent


def holding_the_lock(count: int = 2, **options: int) -> Machine:
    """10 ms of Python: together half as many batches."""
    return Machine(ThreadTrial(count), count * 0.020, 0.010, 0.018, 0.010, **options)


def letting_it_go(count: int = 2) -> Machine:
    return Machine(ThreadTrial(count), 0.011, 0.010, 0.011, 0.010)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_threads_that_slow_each_other_down_leave_one_alone(count: int) -> None:
    machine = holding_the_lock(count)
    machine.make(2000)
    assert machine.trial.ended
    assert machine.trial.limit == 1
    with pytest.warns(RuntimeWarning, match=rf"^{count} threads make 0.50 times as many .* worker_type='process' .*$"):
        machine.trial.tell(1)


def test_it_is_told_once() -> None:
    machine = holding_the_lock()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        machine.trial.tell(1)  # nothing yet
        machine.make(2000)
        with pytest.raises(RuntimeWarning):
            machine.trial.tell(1)
        machine.trial.tell(1)


def test_it_is_found_within_three_seconds() -> None:
    machine = holding_the_lock()
    while not machine.trial.ended:
        machine.make(1)
    assert sum(machine.spent.values()) < 3


@pytest.mark.parametrize("count", [2, 8])
def test_threads_that_let_go_of_the_lock_go_on_together(count: int) -> None:
    machine = letting_it_go(count)
    machine.make(100_000)
    assert machine.has_paused_threads()
    assert not machine.trial.ended
    assert machine.trial.limit == count


@pytest.mark.parametrize("seconds", [0.001, 0.010, 0.3])
def test_trials_cost_less_than_a_hundredth_of_the_time(seconds: float) -> None:
    """The other of two threads makes nothing in the meantime: half of the batches are lost."""
    machine = Machine(ThreadTrial(2), seconds, seconds, seconds, seconds)
    machine.make(int(2 * 10 / seconds) + 2000)
    assert 0 < machine.spent[1] / 2 < 0.01 * sum(machine.spent.values())


def test_a_busy_machine_is_no_reason() -> None:
    """Other programs make the seconds longer, but not those on a processor."""
    machine = Machine(ThreadTrial(2), together=0.050, alone=0.010, cpu_together=0.010, cpu_alone=0.010)
    machine.make(10_000)
    assert machine.has_paused_threads()
    assert not machine.trial.ended


def test_batches_that_cost_more_together_may_still_come_faster() -> None:
    """Cores that share caches, or memory."""
    machine = Machine(ThreadTrial(2), together=0.016, alone=0.010, cpu_together=0.016, cpu_alone=0.010)
    machine.make(10_000)
    assert machine.has_paused_threads()
    assert not machine.trial.ended
    machine.trial.tell(1)  # warnings are errors here


def test_one_slow_round_is_no_reason() -> None:
    machine = holding_the_lock()
    while not machine.has_paused_threads() or machine.trial.limit == 1:
        machine.make(1)
    machine.cpu_together, machine.together = 0.010, 0.010  # the next rounds are as fast as they come
    machine.make(1000)
    assert not machine.trial.ended


@pytest.mark.parametrize("batches", [39, 50])
def test_short_epochs_are_left_alone(batches: int) -> None:
    """50 batches of two threads are not half a second of both."""
    machine = Machine(ThreadTrial(2), 0.019, 0.001, 0.019, 0.001)
    machine.make(batches)
    assert not machine.has_paused_threads()


def test_threads_that_wait_for_the_consumer_are_left_alone() -> None:
    machine = holding_the_lock(8, at_work=4)
    machine.make(10_000)
    assert not machine.has_paused_threads()


def test_a_batch_counts_only_where_it_began_and_ended() -> None:
    trial = ThreadTrial(2)
    while trial.limit == 2:
        trial.add(2, 2, 0.02, 0.02)
    for _ in range(100):
        trial.add(2, 2, 0.02, 0.02)  # begun before the others paused
        trial.add(1, 2, 0.02, 0.02)
    assert trial.limit == 1


@pytest.mark.parametrize("trial", [ThreadTrial(1), ThreadTrial(2, ended=True)])
def test_there_is_nothing_to_try_with_one_thread_or_without_functions(trial: ThreadTrial) -> None:
    for _ in range(10_000):
        trial.add(trial.count, trial.count, 1, 1)
    assert trial.limit == trial.count
