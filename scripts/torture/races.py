"""Two processes that run the same command on the same folder: both end equal, or one is refused with the reason."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

from scripts.torture.child import Child, Ended
from scripts.torture.disks import explained
from scripts.torture.kills import Figures, Reference, Trials
from scripts.torture.scene import outcome
from scripts.torture.snapshot import compare, snapshot

#: Seconds that the second process may wait for the first, which is stopped meanwhile.
WAIT = 10.0


def race_together(trials: Trials, reference: Reference, times: int, seed: int, figures: Figures) -> None:
    """Both start within a moment of each other."""
    chance = random.Random(f"{seed} {trials.writer.name}")
    for _ in range(times):
        pause = chance.uniform(0, reference.seconds / 2)
        trials.start()
        first = trials.begin()
        second = Child(_later(trials, pause), trials.workdir)
        _judge(trials, reference, [first.wait(), second.wait()], f"started {pause:.2f} s apart", figures)


def race_at_operations(trials: Trials, reference: Reference, chosen: Iterable[int], figures: Figures) -> None:
    """The first is stopped before an operation, the second runs, then the first goes on."""
    for number in chosen:
        trials.start()
        first = trials.begin(number, "stop")
        if not first.until_stopped():
            first.wait()
            continue
        second = Child(trials.writer.action(trials.scene), trials.workdir)
        if not second.ends_within(WAIT):
            first.resume()
        waited = second.wait()
        first.resume()
        _judge(trials, reference, [first.wait(), waited], f"overtaken at operation {number}", figures)


def _later(trials: Trials, pause: float) -> Callable[[], int]:
    action = trials.writer.action(trials.scene)

    def run() -> int:
        time.sleep(pause)
        return action()

    return run


def _judge(trials: Trials, reference: Reference, both: list[Ended], how: str, figures: Figures) -> None:
    figures.trials += 1
    figures.seconds += sum(ended.seconds for ended in both)
    failed = [ended for ended in both if ended.code != 0]
    if len(failed) == 2:
        figures.fault("refused", f"{how}: both: {outcome(failed[0])}; {outcome(failed[1])}")
        return
    if failed and not explained(failed[0]):
        figures.fault("unclear", f"{how}: {outcome(failed[0])}")
    lost, left = compare(snapshot(trials.workdir), reference.state)
    if lost:
        figures.fault("lost", f"{how}: {', '.join(lost[:5])}")
    if left:
        figures.fault("left_over", f"{how}: {', '.join(left[:5])}")
