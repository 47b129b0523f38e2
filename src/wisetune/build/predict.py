"""From a file to a class: the cloud is brought into the frame that the model was tuned in."""

from __future__ import annotations

from pathlib import Path

import torch

from wisetune.data.folder import Folder
from wisetune.data.formats import read
from wisetune.nets.save import load_model, read_card


class Predictor:
    """A saved model ready to classify files. What was done to training clouds (up axis, normalisation) is in the model's file.

    Raises:
        WeightsError: the file is not a model, or cannot be trusted.
    """

    def __init__(self, file: Path, device: torch.device) -> None:
        about = read_card(file).about
        self.model, self.device = load_model(file).to(device), device
        self.frame = Folder.from_options(f"path=.,normalise={about.get('normalise', 'sphere')},up={about.get('up', 'z')}")

    def probabilities(self, file: Path) -> dict[str, float]:
        """The probability of each class.

        Raises:
            BadFile: the file cannot be read as a cloud or mesh.
        """
        # The draw of points follows from the file's name alone, so that an answer does not depend on where the file lies.
        cloud = self.frame.frame(read(file), self.model.backbone.points, file.name)
        with torch.inference_mode():
            logits = self.model(torch.from_numpy(cloud)[None].to(self.device))[0]
        return dict(zip(self.model.classes, logits.softmax(dim=0).tolist(), strict=True))
