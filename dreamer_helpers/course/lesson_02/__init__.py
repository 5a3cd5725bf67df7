"""Lesson 02, two-hot: its exercises and its widgets."""
