"""U-Net: the attention U-Net of THA4's two body networks, conditioned on the rotation pose.

GroupNorm(32), SiLU, and after each block's second norm a scale and shift by time, then by pose. It was designed as a
diffusion network; here time is always 0. Module names follow the published weight files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_CONDITION = 256  # width of both embeddings
_GROUPS = 32
_HEADS = 8


def _norm(channels: int) -> nn.GroupNorm:
    # the published widths are multiples of 32; narrower networks get the most groups that divide them
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


def _scale_shift(x: Tensor, condition: Tensor) -> Tensor:
    scale, shift = condition[:, :, None, None].chunk(2, dim=1)
    return x * (1 + scale) + shift


class ResBlock(nn.Module):
    """norm0-SiLU-(resample)-conv0, norm1, conditions, SiLU, conv1, plus the (resampled, projected) input.

    ``resample`` is "" (keep the size), "down" (average pool 2) or "up" (nearest 2).
    """

    def __init__(self, inner: int, outer: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.norm0 = _norm(inner)
        self.conv0 = nn.Conv2d(inner, outer, 3, padding=1)
        self.cond0_layers = nn.Sequential(nn.SiLU(), nn.Linear(_CONDITION, 2 * outer))
        self.cond1_layers = nn.Sequential(nn.SiLU(), nn.Linear(_CONDITION, 2 * outer))
        self.norm1 = _norm(outer)
        self.conv1 = nn.Conv2d(outer, outer, 3, padding=1)
        nn.init.zeros_(self.conv1.weight)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(
        self, x: Float[Tensor, "n c h w"], time: Float[Tensor, "1 256"], pose: Float[Tensor, "n 256"]
    ) -> Float[Tensor, "n d _h _w"]:
        y = self._resized(F.silu(self.norm0(x)))
        y = self.norm1(self.conv0(y))
        y = _scale_shift(_scale_shift(y, self.cond0_layers(time)), self.cond1_layers(pose))
        return self.conv1(F.silu(y)) + self.skip(self._resized(x))

    def _resized(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x


class Attention(nn.Module):
    """x plus self-attention over all pixels, 8 heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.conv = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        n, channels, height, width = x.shape
        # q, k, v first, then heads: [n, head, pixel, channel of the head]
        qkv = self.qkv(self.norm(x)).reshape(n, 3, _HEADS, channels // _HEADS, height * width).transpose(-1, -2)
        mixed = F.scaled_dot_product_attention(*(part.squeeze(1) for part in qkv.split(1, dim=1)))
        return x + self.conv(mixed.transpose(-1, -2).reshape(n, channels, height, width))


class MiddleAttention(nn.Module):
    """Attention among the middle blocks; the published files name it ``module`` there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.module = Attention(channels)


class Down(nn.Module):
    """One level on the way down: a block (and attention on the lowest level), then a halving block except there."""

    def __init__(self, inner: int, outer: int, *, lowest: bool) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList([ResBlock(inner, outer)])
        self.attention_blocks = nn.ModuleList([Attention(outer)] if lowest else [])
        self.downsample = None if lowest else ResBlock(outer, outer, "down")


class Up(nn.Module):
    """One level on the way up: two blocks on concatenated skips (and attention on the lowest), then a doubling."""

    def __init__(self, inner: int, skips: Sequence[int], outer: int, *, lowest: bool, highest: bool) -> None:
        super().__init__()
        self.resnet_blocks = nn.ModuleList(
            [ResBlock(inner + skips[0], outer), *(ResBlock(outer + skip, outer) for skip in skips[1:])]
        )
        self.attention_blocks = nn.ModuleList([Attention(outer) for _ in skips] if lowest else [])
        self.upsample = None if highest else ResBlock(outer, outer, "up")


class UNet(nn.Module):
    """From a 4-channel image and 6 pose values to 7 channels at the same size.

    ``base`` channels at full size, times ``multipliers[level]`` after each halving.
    """

    def __init__(self, base: int, multipliers: Sequence[int]) -> None:
        super().__init__()
        widths = [base * multiplier for multiplier in multipliers]
        lowest = len(widths) - 1
        self.base = base
        # a sinusoidal embedding has no parameters but takes place 0 in the published files
        self.time_embed = nn.Sequential(
            nn.Identity(), nn.Linear(base, _CONDITION), nn.SiLU(), nn.Linear(_CONDITION, _CONDITION)
        )
        self.cond_embed = nn.Sequential(nn.Linear(6, _CONDITION), nn.SiLU(), nn.Linear(_CONDITION, _CONDITION))
        self.first_conv = nn.Conv2d(4, base, 3, padding=1)
        skips = [base]
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            self.down_blocks.append(Down(skips[-1], width, lowest=level == lowest))
            skips += [width] if level == lowest else [width, width]
        deepest = widths[-1]
        self.middle_blocks = nn.ModuleList([ResBlock(deepest, deepest)])
        for _ in range(3):
            self.middle_blocks.extend([MiddleAttention(deepest), ResBlock(deepest, deepest)])
        self.up_blocks = nn.ModuleList()
        width = deepest
        for level in range(lowest, -1, -1):
            pair = [skips.pop(), skips.pop()]
            self.up_blocks.append(Up(width, pair, widths[level], lowest=level == lowest, highest=level == 0))
            width = widths[level]
        self.last = nn.Sequential(_norm(base), nn.SiLU(), nn.Conv2d(base, 7, 3, padding=1))

    def forward(
        self,
        image: Float[Tensor, "n 4 h w"],
        pose: Float[Tensor, "n 6"],
        extra: Float[Tensor, "n c h w"] | None = None,
    ) -> Float[Tensor, "n 7 h w"]:
        """``extra`` is added to the first convolution's output."""
        # the embedding of time 0: every cosine is 1, every sine 0
        zero = image.new_ones(1, self.base)
        zero[:, self.base // 2 :] = 0
        time, condition = self.time_embed(zero), self.cond_embed(pose)
        x = self.first_conv(image)
        if extra is not None:
            x = x + extra
        skips = [x]
        for down in self.down_blocks:
            assert isinstance(down, Down)
            x = down.res_blocks[0](x, time, condition)
            for attention in down.attention_blocks:
                x = attention(x)
            skips.append(x)
            if down.downsample is not None:
                x = down.downsample(x, time, condition)
                skips.append(x)
        for middle in self.middle_blocks:
            x = middle.module(x) if isinstance(middle, MiddleAttention) else middle(x, time, condition)
        for up in self.up_blocks:
            assert isinstance(up, Up)
            for i, res_block in enumerate(up.resnet_blocks):
                x = res_block(torch.cat([x, skips.pop()], dim=1), time, condition)
                if len(up.attention_blocks):
                    x = up.attention_blocks[i](x)
            if up.upsample is not None:
                x = up.upsample(x, time, condition)
        return self.last(x)
