"""A bridge between the embeddings of a student and a teacher of different lengths."""

from typing import Literal, final

import torch
from torch import Tensor, nn

BridgeKind = Literal["isometry", "linear"]


@final
class Bridge(nn.Module):
    """Brings student and teacher embeddings to one length, for losses that compare them directly.

    Equal lengths pass unchanged, whatever the kind. Otherwise:

    - ``isometry``, student shorter: a learned map with orthonormal columns takes the student into
      the teacher's space. It keeps every angle between student embeddings, so what is compared
      with the teacher is also what the deployed network gives, without the map. It starts at the
      directions in which the teacher's embeddings are largest.
    - ``isometry``, student longer: a fixed map with orthonormal columns lifts the teacher into
      the student's space. It is dense, so that no element of the student has to be zero.
    - ``linear``: a learned matrix without bias takes the student to the teacher's length, as
      published with most methods. It may stretch the student's space, and what it mends is missing
      from the deployed network.

    The learned maps are trained with the network. Weight decay and the length of the weight do not
    change an ``isometry``: its columns are made orthonormal at every step, by a QR decomposition.

    Args:
        kind: which of the two.
        student_size: length of the student's embeddings.
        teacher_size: length of the teacher's.
        sample: `(n, teacher_size)` unit embeddings of the teacher, for the start of a learned
            ``isometry``; a random one without.

    Attributes:
        size: common length of what comes out.
    """

    weight: nn.Parameter | None
    lift: Tensor | None

    def __init__(
        self,
        kind: BridgeKind,
        *,
        student_size: int,
        teacher_size: int,
        sample: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.size = teacher_size if kind == "linear" else max(student_size, teacher_size)
        weight: Tensor | None = None
        lift: Tensor | None = None
        if kind == "linear" and student_size != teacher_size:
            weight = nn.Linear(student_size, teacher_size, bias=False).weight.detach()
        elif student_size < teacher_size:
            weight = _principal_directions(sample, student_size, teacher_size)
        elif student_size > teacher_size:
            generator = torch.Generator().manual_seed(0)
            lift = _orthonormal(torch.randn(student_size, teacher_size, generator=generator))
        self.weight = None if weight is None else nn.Parameter(weight)
        self.register_buffer("lift", lift)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both at one length, in float32 or wider whatever autocast says.

        Args:
            student: `(N, student_size)`.
            teacher: `(N, teacher_size)`.

        Returns:
            `(N, size)` each. An ``isometry`` keeps the lengths of embeddings.
        """
        with torch.autocast(student.device.type, enabled=False):
            wide = torch.promote_types(student.dtype, torch.float32)
            student, teacher = student.to(wide), teacher.to(wide)
            if self.weight is not None:
                map_ = _orthonormal(self.weight) if self.kind == "isometry" else self.weight
                student = student @ map_.to(wide).T
            if self.lift is not None:
                teacher = teacher @ self.lift.to(wide).T
            return student, teacher


def _orthonormal(matrix: Tensor) -> Tensor:
    """Orthonormal columns with the span of a tall matrix; one that has them comes back as is."""
    q, r = torch.linalg.qr(matrix)
    # Of the two signs of a column the one of the matrix, so that the result moves smoothly.
    signs = torch.where(r.diagonal() < 0, -1.0, 1.0).to(q.dtype)
    orthonormal: Tensor = q * signs
    return orthonormal


def _principal_directions(sample: Tensor | None, n: int, size: int) -> Tensor:
    """The `n` orthonormal directions, `(size, n)`, that hold most of the sample's squared
    length."""
    if sample is None:
        return _orthonormal(torch.randn(size, n))
    if sample.ndim != 2 or sample.shape[1] != size:
        raise ValueError(f"sample must be (n, {size}), got {tuple(sample.shape)}")
    wide = sample.double()
    # Not centred: the map is linear, so it keeps the origin.
    _, directions = torch.linalg.eigh(wide.T @ wide)  # ascending
    start: Tensor = directions.flip(1)[:, :n].float().contiguous()
    return start
