"""BitFit: what is added trains, what is multiplied does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from wisetune.nets.backbone import Backbone
from wisetune.spec import option
from wisetune.tune.graft import BY_FIGURE, DAPT_TABLE, Grafting
from wisetune.tune.tuning import Figures, Published


@dataclasses.dataclass(frozen=True)
class BitFit(Grafting):
    """Biases train (Ben Zaken et al., ACL 2022): of the blocks, or of everything, the tokenizer's BatchNorm too. Queries and keys have none here."""

    name: ClassVar[str] = "bitfit"
    title: ClassVar[str] = "BitFit"
    figures: ClassVar[Figures | None] = Figures.in_dapts_table(0.3, 82.62)

    biases: Literal["blocks", "all"] = option(
        "blocks", means="of the blocks, or all of them: the tokenizer's, of positions and the last norm too"
    )

    @classmethod
    def presets(cls) -> Mapping[str, Published]:
        """With every bias it would be the same 0.3 M."""
        return {DAPT_TABLE: Published({"biases": "blocks"}, "DAPT's table, 0.3 M: with biases=all it is the same figure", (BY_FIGURE,))}

    def trains(self, name: str, backbone: Backbone) -> bool:
        """Names that end in bias too."""
        inside = self.biases == "all" or "blocks." in name
        return (inside and name.endswith(".bias")) or super().trains(name, backbone)
