"""Tests of the whole from the outside: the command line and the Python API on real scripts."""
