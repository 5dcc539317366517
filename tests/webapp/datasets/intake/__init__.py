"""Tests of turning an upload into items: labels, manifests, commit, report."""
