"""Lesson 00, start here: its warm-up, the files that it ships, and how it reads pictures of dreams."""
