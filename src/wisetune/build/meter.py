"""How far a job is, in clouds looked at: the one unit that training, features and measures share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Meter(Protocol):
    """Told what is done next and how many clouds were looked at; draws a bar, or nothing."""

    def expect(self, clouds: float, done: float = 0.0) -> None:
        """How much there is to do in all, and how much of it was done before: the work begins now."""

    def stage(self, text: str) -> None:
        """What is being done now."""

    def advance(self, clouds: float) -> None:
        """So many more clouds are done."""

    def tell(self, text: str) -> None:
        """A line that the user should read."""


class Silent:
    """A meter that shows nothing."""

    def expect(self, clouds: float, done: float = 0.0) -> None:
        """Nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def advance(self, clouds: float) -> None:
        """Nothing."""

    def tell(self, text: str) -> None:
        """Nothing."""
