"""Products: the library that is taken gives what torch's own gives."""

from __future__ import annotations

import pytest
import torch

from thadistill.kernels import matmul


@pytest.mark.parametrize("taken", [False, True])
def test_gives_what_double_precision_gives(taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if taken and not torch.backends.mkldnn.is_available():
        pytest.skip("torch without oneDNN")
    monkeypatch.setattr(matmul, "_onednn_is_faster", lambda: taken)
    generator = torch.Generator().manual_seed(0)
    for rows, given, out in ((64, 90, 7), (37, 21, 33), (5, 1, 1)):
        x, bias = torch.randn(rows, given, generator=generator), torch.randn(out, generator=generator)
        matrix = torch.randn(given, out, generator=generator).T  # a view, as a level's is of its first layer
        exact = x.double() @ matrix.double().T
        torch.testing.assert_close(matmul.linear(x, matrix), exact.float(), atol=2e-5, rtol=0)
        torch.testing.assert_close(matmul.linear(x, matrix, bias), (exact + bias).float(), atol=2e-5, rtol=0)
