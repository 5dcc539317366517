"""Weights from and for other programs: conversion, export, other libraries' state dicts."""
