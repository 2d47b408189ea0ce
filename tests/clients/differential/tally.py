"""Many cases, and what they came to."""

from collections import Counter
from collections.abc import Iterable

from tests.clients.differential import draw
from tests.clients.differential.allowed import TABLE
from tests.clients.differential.lockstep import Played, play


class Tally:
    """Counts cases, exchanges and rows: how often each was used, and how often it was the only one that explained."""

    def __init__(self) -> None:
        self.cases = 0
        self.exchanges = 0
        self.same = 0
        self.used: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()

    def add(self, played: Played) -> None:
        self.cases += 1
        self.exchanges += len(played.exchanges)
        for rows in played.rows:
            self.same += not rows
            self.used.update(rows)
            if len(rows) == 1:
                self.alone.update(rows)

    @property
    def unneeded(self) -> list[str]:
        """The rows without which nothing would have been different."""
        return [row.name for row in TABLE if not self.alone[row.name]]

    def __str__(self) -> str:
        lines = [
            f"{self.cases} cases, {self.exchanges} exchanges: {self.same} the same, {self.exchanges - self.same} by row"
        ]
        for row in TABLE:
            lines.append(f"{self.used[row.name]:7} ({self.alone[row.name]} alone)  {row.name}: {row.reason}")
        return "\n".join(lines)


async def run(seeds: Iterable[int]) -> Tally:
    """Play the cases of `seeds`.

    Raises:
        DifferenceError: at the first difference that no row allows.
    """
    tally = Tally()
    for seed in seeds:
        tally.add(await play(draw.case(seed)))
    return tally
