"""Exchanges weights with other programs: conversion, export, other libraries' state dicts."""
