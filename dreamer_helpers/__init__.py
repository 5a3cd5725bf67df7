"""DreamerV3 in modules that can be read in an evening, and the tools of the course that builds it.

Start with ``world_model.py``, then ``actor_critic.py``, then ``train.py``. Importing the package loads none of them.
"""

__version__ = "0.1.0"
