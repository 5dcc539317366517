"""Tests of the web application; here those that concern all apps, and shared fixtures."""
