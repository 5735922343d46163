"""FaceStagesModule: trains the three face networks together on triples from the rest to the posed face."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from thadistill.data.triples import Triple
from thadistill.images import FACE_REGION
from thadistill.lit.teacher import TeacherModule
from thadistill.metrics.image import psnr
from thadistill.teacher.face_stages import FaceStages, FaceStagesOutput


class FaceStagesModule(TeacherModule):
    """As TeacherModule, of which it takes phases, optimiser and warm-up; ``network`` is a FaceStages.

    Compared within the 192x192 face region: the face with iris and mouth posed, through which the eyebrow networks learn,
    and the face with its eyes painted over that. Validation compares the same region.
    """

    network: FaceStages

    def forward(self, image: Float[Tensor, "n 4 512 512"], pose: Float[Tensor, "n 45"]) -> FaceStagesOutput:  # type: ignore[override]
        return self.network(image, pose)

    def losses(self, out: FaceStagesOutput, truth: Float[Tensor, "n 4 512 512"]) -> dict[str, Tensor]:  # type: ignore[override]
        """The phase's loss of the two pictures."""
        wanted = FACE_REGION.crop(truth)
        return self.compare([(out.face.iris_mouth_image_1, wanted, 1.0), (out.face.output, wanted, 1.0)])

    def validation_step(self, batch: Triple, batch_idx: int) -> dict[str, Tensor]:
        found = self(batch.image, batch.pose).face.output
        wanted, rest = FACE_REGION.crop(batch.posed), FACE_REGION.crop(batch.image)
        reached, unmoved = psnr(found, wanted).mean(), psnr(rest, wanted).mean()
        figures = {"val/psnr": reached, "val/psnr_identity": unmoved, "val/gain": reached - unmoved}
        self.log_dict(figures, batch_size=len(batch.pose), sync_dist=True)
        return {"teacher": wanted, "student": found}
