"""Puppet: a procedural character that is its own teacher; offline, without weights, many characters by seed."""

from thadistill.teacher.puppet.teacher import PuppetTeacher, load_puppet, write_puppet

__all__ = ["PuppetTeacher", "load_puppet", "write_puppet"]
