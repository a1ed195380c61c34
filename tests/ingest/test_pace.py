"""How fast hosts are asked, on a clock of the test's own."""

from dataclasses import dataclass, field

from ingest.pace import LONGEST_S, Pace


@dataclass
class Clock:
    now: float = 100.0
    turns: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, pace: Pace, status: int = 200, takes: float = 0.0, delay: float = 1.0) -> None:
        pace.wait("a", delay)
        self.turns.append(self.now)
        self.now += takes
        pace.note("a", takes, status)

    def gaps(self) -> list[float]:
        return [round(b - a, 3) for a, b in zip(self.turns, self.turns[1:], strict=False)]


def made() -> tuple[Clock, Pace]:
    clock = Clock()
    return clock, Pace(lambda: clock.now, clock.sleep)


def test_the_delay_is_kept_between_starts_and_other_hosts_wait_for_none() -> None:
    clock, pace = made()
    for _ in range(3):
        clock.ask(pace, takes=0.2)
    assert clock.gaps() == [1.0, 1.0]
    before = clock.now
    pace.wait("b", 1.0)
    assert clock.now == before


def test_a_slow_host_is_asked_no_faster_than_it_answers() -> None:
    clock, pace = made()
    for _ in range(8):
        clock.ask(pace, takes=4.0)
    assert clock.gaps()[-1] >= 4.0
    for _ in range(8):
        clock.ask(pace, takes=0.1)
    assert clock.gaps()[-1] == 1.0


def test_a_busy_host_is_left_alone_longer_each_time_and_forgiven_step_by_step() -> None:
    clock, pace = made()
    for _ in range(4):
        clock.ask(pace, status=429)
    assert clock.gaps() == [1.0, 2.0, 4.0]
    clock.ask(pace)
    assert clock.gaps()[-1] == 8.0
    pauses = []
    for _ in range(20):
        pauses.append(pace.pause("a"))
        clock.ask(pace)
    assert pauses == sorted(pauses, reverse=True)
    assert clock.gaps()[-1] == 1.0


def test_there_is_an_end_to_it_and_a_site_of_one_s_own_waits_only_when_busy() -> None:
    clock, pace = made()
    for _ in range(20):
        clock.ask(pace, status=503, delay=0.0)
    assert clock.gaps()[-1] == LONGEST_S
    other = Clock()
    free = Pace(lambda: other.now, other.sleep)
    for _ in range(3):
        other.ask(free, takes=2.0, delay=0.0)
    assert other.gaps() == [2.0, 2.0]  # the answers' own time


def test_a_turn_counts_from_when_the_request_went_out() -> None:
    clock, pace = made()
    pace.wait("a", 1.0)
    clock.now += 0.8  # until there was a connection
    pace.sent("a", clock.now)
    pace.wait("a", 1.0)
    assert clock.now == 101.8
    pace.sent("nobody", clock.now)  # a host that was never waited for
