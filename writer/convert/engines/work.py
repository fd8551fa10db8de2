"""The interface between what is to be made in units and the engines that run them."""

from __future__ import annotations

from typing import Protocol, TypeVar

from recordio.writer.convert.staging import Staging
from recordio.writer.convert.units import Report

Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)


class Work(Protocol[Made_co]):
    """Units that can be made in any order, in any process: it is pickled."""

    @property
    def workers(self) -> int | None:
        """Processes; 0 and 1 are this one, None is one for each processor."""

    def samples(self, unit: int) -> int:
        """How many samples a unit is made of."""

    def make(self, unit: int, staging: Staging, report: Report, threads: int) -> Made_co:
        """Makes a unit in the staging folder. `report` is called with the samples done; it may raise to stop."""
