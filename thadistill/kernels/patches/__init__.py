"""Patches: cut from target images, warped, and compared with the student's."""

from thadistill.kernels.patches.op import Matched, cut_patches, match_patches, warp_patches

__all__ = ["Matched", "cut_patches", "match_patches", "warp_patches"]
