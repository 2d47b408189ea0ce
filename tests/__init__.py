"""Tests mirror the tree; each test states one fact."""
