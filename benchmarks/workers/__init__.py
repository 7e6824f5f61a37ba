"""Processes that benchmarks start beside their own."""
