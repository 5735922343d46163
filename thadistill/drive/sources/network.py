"""Network sources: face trackers that send packets over UDP: iFacialMocap, VMC, OpenSeeFace."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final

from thadistill.drive.handle import HandleContext
from thadistill.drive.motion import FACE
from thadistill.drive.protocols import Face, PacketError, VmcReader, parse_ifacialmocap, parse_openseeface
from thadistill.drive.protocols.ifacialmocap import HELLO
from thadistill.drive.protocols.ifacialmocap import PORT as IFACIALMOCAP_PORT
from thadistill.drive.protocols.openseeface import PORT as OPENSEEFACE_PORT
from thadistill.drive.protocols.vmc import PORT as VMC_PORT
from thadistill.drive.sources.base import WAIT_S, FaceMapping, SourceOptions, TimedPose
from thadistill.errors import UserError
from thadistill.serve.hosts import is_loopback

PORTS: Final = {"ifacialmocap": IFACIALMOCAP_PORT, "vmc": VMC_PORT, "openseeface": OPENSEEFACE_PORT}

_LONGEST = 65536
_HELLO_EVERY_S = 2.0  # while the phone is silent: it may have been asleep
_SENDER_GONE_S = 1.0  # then another sender may take over


class Network(HandleContext):
    """Poses from packets that arrive at a UDP port; the newest of those waiting counts.

    One machine at a time: packets of a second one are dropped until the first has been silent for a second.

    Args:
        name: the protocol, of PORTS.
        options: ``host`` and ``port`` to listen at, ``phone`` to say hello to, and what maps faces.
    """

    drives = FACE

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.name, self.options = name, options
        self.port = PORTS[name] if options.port is None else options.port
        self.mapping = FaceMapping(name, options)
        vmc = VmcReader()
        parsers: dict[str, Callable[[bytes], Face | None]] = {
            "ifacialmocap": parse_ifacialmocap,
            "vmc": vmc.take,
            "openseeface": parse_openseeface,
        }
        self._parse = parsers[name]
        self._handle: socket.socket | None = None
        self._sender = ("", -1e9)  # whom it listens to, and when that was last heard
        self._hello = -1e9

    def __enter__(self) -> Network:
        """Opens the port.

        Raises: UserError when it is taken or the address is not this machine's.
        """
        where = f"{self.options.host}:{self.port}"
        phone = (self.options.phone or "").partition(":")[0]
        if self.name == "ifacialmocap" and phone and is_loopback(self.options.host) and not is_loopback(phone):
            raise UserError(
                f"phone={phone} cannot reach {where}, which is for this machine alone; expected listen=0.0.0.0"
            )
        try:
            found = socket.getaddrinfo(self.options.host, self.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            self._handle = socket.socket(family, kind, protocol)
            self._handle.bind(address)
        except (OSError, UnicodeError) as error:
            self._close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise UserError(
                    f"port {where} is taken; expected a free one: end what listens there, or give listen_port="
                ) from None
            raise UserError(
                f"cannot listen at {where} ({error}); expected an address of this machine: give listen="
            ) from None
        self.port = self._handle.getsockname()[1]
        self._handle.settimeout(WAIT_S)
        self._greet(must=True)
        return self

    def poses(self) -> Iterator[TimedPose | None]:
        """See Source; malformed packets are passed over, and said once."""
        given = time.monotonic()
        while self._handle is not None:
            newest = None
            for packet, sender, arrived in self._receive():  # each, because VMC's values come one by one
                if sender != self._sender[0] and arrived - self._sender[1] < _SENDER_GONE_S:
                    continue
                try:
                    face = self._parse(packet)
                except PacketError as error:
                    self.mapping.complain(error)
                    continue
                self._sender = (sender, arrived)
                pose = None if face is None else self.mapping.pose(face)
                newest = newest if pose is None else TimedPose(pose, arrived)
            now = time.monotonic()
            if newest is None and now - given < WAIT_S:
                continue
            if newest is None:
                self._greet()
            given = now
            yield newest

    def _receive(self) -> list[tuple[bytes, str, float]]:
        """What has arrived, at most 64 packets, with the sender's address and the time; waits WAIT_S for the first."""
        assert self._handle is not None
        packets: list[tuple[bytes, str, float]] = []
        deadline = time.monotonic() + WAIT_S
        try:
            while len(packets) < 64 and (packets or time.monotonic() < deadline):
                self._handle.settimeout(0 if packets else max(1e-3, deadline - time.monotonic()))
                packet, sender = self._handle.recvfrom(_LONGEST)
                packets.append((packet, str(sender[0]), time.monotonic()))
        except (TimeoutError, BlockingIOError):
            pass
        except OSError:  # a phone that is off answers so on some systems; the port stays open
            time.sleep(0.01)
        return packets

    def _greet(self, must: bool = False) -> None:
        """Asks the phone to send, again and again while it is silent."""
        phone = self.options.phone
        if self.name != "ifacialmocap" or phone is None or time.monotonic() - self._hello < _HELLO_EVERY_S:
            return
        self._hello = time.monotonic()
        assert self._handle is not None
        host, _, port = phone.partition(":")
        try:
            self._handle.sendto(HELLO, (host, int(port) if port else IFACIALMOCAP_PORT))
        except (OSError, UnicodeError, ValueError, OverflowError) as error:
            if must and not isinstance(error, OSError):
                raise UserError(f"phone={phone}; expected its address, such as 192.168.1.20") from None
            if must and isinstance(error, socket.gaierror):
                raise UserError(f"phone={phone} is not found ({error.strerror}); expected its address") from None
