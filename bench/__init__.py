"""Benchmarks: real processes, real sockets, figures with how they were measured."""
