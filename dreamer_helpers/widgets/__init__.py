"""What one moves and watches in the notebooks: plain ipywidgets, so that they work on Colab with nothing enabled.

These are the widgets that lessons share; what serves one lesson alone lies in its folder, ``course/lesson_NN``.
"""

from dreamer_helpers.widgets.dashboard import TrainingDashboard
from dreamer_helpers.widgets.dream_player import DreamPlayer
from dreamer_helpers.widgets.explorer import Explorer
from dreamer_helpers.widgets.player import Scrubber

__all__ = ["DreamPlayer", "Explorer", "Scrubber", "TrainingDashboard"]
