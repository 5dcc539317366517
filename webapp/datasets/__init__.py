"""Datasets: uploads, their intake, revisions, items, pictures and pages."""
