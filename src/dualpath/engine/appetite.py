"""What was measured of a loader, in plain sentences: what holds it up, which setting to take, how long a GPU would wait."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dualpath.engine.bench import AS_THEY_ARE, PREPARED, Bench, Rates
from dualpath.errors import number_of

PEAK_TFLOPS = {"H100": 989.0, "A100": 312.0, "RTX 4090": 165.0, "T4": 65.0}
"""Dense bf16 (T4: fp16) with fp32 sums, from the makers' data sheets; H100 and A100 as SXM modules."""
REACHED = 0.4
"""Share of its peak that a card reaches in training, about."""
PASSES = 2.0
"""Cost of a training step in forward passes: back through frozen weights to the trained parts, which are small."""


@dataclass(frozen=True)
class Demand:
    """How many training clips a second a model takes.

    Attributes:
        what: takes them: "an H100", "your training".
        clips_per_s: so many.
        estimated: not measured.
    """

    what: str
    clips_per_s: float
    estimated: bool


def estimate(gmacs: float) -> tuple[Demand, ...]:
    """What cards would eat of a model: peak x 0.4 over the cost of a step; `gmacs`: 1e9 multiply-adds of a clip, forwards."""
    step = 2 * gmacs * 1e9 * PASSES
    return tuple(
        Demand(f"{'an' if name[0] in 'AHR' else 'a'} {name}", peak * 1e12 * REACHED / step, True)
        for name, peak in PEAK_TFLOPS.items()
    )


def find_limit(rates: Rates, workers: int, cores: int) -> str:
    """The step that a setting waits for: "decode", "transform", "process transfer" or "disk"."""
    ideal = min(max(1, workers), cores) / (1 / rates.decode + 1 / rates.transform)
    reached = rates.loader[workers]
    if reached < 0.75 * ideal:
        slow = {"disk": rates.disk or math.inf, "process transfer": rates.transfer if workers else math.inf}
        name = min(slow, key=lambda step: slow[step])
        if slow[name] < 1.5 * reached:
            return name
    return "decode" if rates.decode <= rates.transform else "transform"


def choose_workers(rates: Rates) -> int:
    """The fewest workers that come within 5 % of the best."""
    most = max(rates.loader.values())
    return min(workers for workers, rate in rates.loader.items() if rate >= 0.95 * most)


def advise(bench: Bench, demands: tuple[Demand, ...]) -> list[str]:
    """What follows from the figures, one sentence each."""
    told = [_limit_sentence(name, rates, bench.cores) for name, rates in bench.rates.items()]
    plain = bench.rates[AS_THEY_ARE]
    workers, taken = choose_workers(plain), AS_THEY_ARE
    rate = plain.loader[workers]
    prepared = bench.rates.get(PREPARED)
    if prepared is not None:
        others = choose_workers(prepared)
        gain = prepared.loader[others] / rate
        if gain >= 1.15:
            told.append(f"Take `dualpath data prepare` (x{gain:.1f}) and --workers {others}.")
            taken, workers = PREPARED, others
        else:
            told.append(f"Take the files as they are and --workers {workers}: preparing them would gain little (x{gain:.1f}).")
    else:
        told.append(f"Take --workers {workers}.")
    best = bench.rates[taken]
    told += [_demand_sentence(demand, rate, best, taken, workers, bench.cores) for demand in demands]
    return told


def _limit_sentence(name: str, rates: Rates, cores: int) -> str:
    workers = choose_workers(rates)
    limit = find_limit(rates, workers, cores)
    costs = {"decode": 1000 / rates.decode, "transform": 1000 / rates.transform, "process transfer": 1000 / rates.transfer}
    if rates.disk is not None:
        costs["disk"] = 1000 / rates.disk
    others = ", ".join(f"{step} {cost:.1f}" for step, cost in costs.items() if step != limit)
    return (
        f"Files {name}: {rates.loader[workers]:.1f} clips/s with {number_of(workers, 'worker')}; the limit is {limit} "
        f"({costs[limit]:.1f} ms a clip; {others})."
    )


def _demand_sentence(demand: Demand, rate: float, best: Rates, taken: str, workers: int, cores: int) -> str:
    about = "would eat about" if demand.estimated else "eats"
    estimate = " (an estimate)" if demand.estimated else ""
    head = f"{demand.what[0].upper()}{demand.what[1:]} {about} {demand.clips_per_s:,.0f} clips/s{estimate}"
    reached = best.loader[workers]
    if rate >= demand.clips_per_s:
        return f"{head}: your loader gives {rate:,.0f}, which is enough."
    text = f"{head}; your loader gives {rate:,.0f}: it would wait {_waiting(rate, demand):.0f} % of the time"
    if taken == PREPARED:
        text += f", with prepared files and {number_of(workers, 'worker')} {_waiting(reached, demand):.0f} %"
    if reached >= demand.clips_per_s:
        return text + "."
    a_worker = 1 / (1 / best.decode + 1 / best.transform)
    needed = math.ceil(demand.clips_per_s / a_worker)
    more = f", more than the {number_of(cores, 'core')} here" if needed > cores else ""
    return f"{text}; about {number_of(needed, 'worker on one core|workers on as many cores')} would feed it{more}."


def _waiting(rate: float, demand: Demand) -> float:
    """Share of the time, in per cent, for which clips are waited for."""
    return 100 * max(0.0, 1 - rate / demand.clips_per_s)
