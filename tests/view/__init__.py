"""Tests of dgraph.view."""
