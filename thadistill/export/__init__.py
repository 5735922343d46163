"""Exported forms of a student: ONNX, the browser player's character file and site."""
