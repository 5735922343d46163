"""Protocols: packets of face trackers, bytes to a face; no sockets, nothing but PacketError for what is malformed."""

from thadistill.drive.protocols.face import Face, PacketError
from thadistill.drive.protocols.ifacialmocap import parse_ifacialmocap
from thadistill.drive.protocols.openseeface import parse_openseeface
from thadistill.drive.protocols.osc import parse_osc
from thadistill.drive.protocols.vmc import VmcReader

__all__ = ["Face", "PacketError", "VmcReader", "parse_ifacialmocap", "parse_openseeface", "parse_osc"]
