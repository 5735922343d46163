"""Puppet: procedural characters, their drawing and motion; the teacher made of one is :mod:`thadistill.teacher.puppet`."""
