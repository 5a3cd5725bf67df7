"""Lesson 01, symlog: its exercises and its widgets."""
