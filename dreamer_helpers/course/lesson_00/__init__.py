"""Lesson 00, start here: the files that it ships."""
