"""Sender: what a phone with iFacialMocap sends, as a process of its own; prints when it sent each packet.

python experiments/latency/sender.py PORT RATE SECONDS
"""

from __future__ import annotations

import json
import math
import socket
import sys
import time

_STILL = "|".join(f"{name}&{value}" for name, value in (("browInnerUp", 12), ("mouthPucker", 8), ("cheekPuff", 3)))


def packet(seconds: float) -> bytes:
    """A face that talks, blinks and turns, ``seconds`` from its beginning."""
    jaw = round(50 + 50 * math.sin(9 * seconds))
    blink = 100 if seconds % 3 < 0.15 else 0
    turn = 8 * math.sin(1.3 * seconds), 9 * math.sin(0.9 * seconds), 6 * math.sin(0.7 * seconds)
    face = (
        f"jawOpen&{jaw}|eyeBlink_L&{blink}|eyeBlink_R&{blink}|mouthSmile_L&{jaw // 2}|mouthSmile_R&{jaw // 2}|{_STILL}"
    )
    eyes = "rightEye#1.0,2.0,0.0|leftEye#1.0,2.0,0.0"
    return f"{face}|=head#{turn[0]:.4f},{turn[1]:.4f},{turn[2]:.4f},0.01,0.02,0.3|{eyes}|".encode()


def main() -> None:
    """Sends at moments that do not drift; a moment that was missed is made up for at once."""
    port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    sent = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            sent.append(time.monotonic())
            to.sendto(packet(number / rate), ("127.0.0.1", port))
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
