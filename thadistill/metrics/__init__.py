"""Metrics: functions of one value per image, and the torchmetrics classes that average them."""
