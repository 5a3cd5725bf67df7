"""Lesson 09, train: its exercises and its pictures."""
