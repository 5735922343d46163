"""Kernels: one folder per operation: ``op.py`` (public), ``reference.py`` (plain PyTorch), its C++; built by ``build.py``.

The whole student in one pass (``runtime/student.cpp``) and its Triton levels stay in ``runtime``: they are that runtime,
and read the student's layers.
"""
