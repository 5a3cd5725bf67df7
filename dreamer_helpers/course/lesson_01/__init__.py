"""Lesson 01, symlog: its exercises, its pictures and its widgets."""
