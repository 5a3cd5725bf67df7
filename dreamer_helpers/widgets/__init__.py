"""What one moves and watches in the notebooks: plain ipywidgets, so that they work on Colab with nothing enabled."""

from dreamer_helpers.widgets.dashboard import TrainingDashboard
from dreamer_helpers.widgets.dream_player import DreamPlayer
from dreamer_helpers.widgets.explorer import Explorer
from dreamer_helpers.widgets.lesson_01 import RewardHistogram, SymlogExplorer
from dreamer_helpers.widgets.lesson_02 import LotteryExplorer, TwoHotExplorer
from dreamer_helpers.widgets.player import Scrubber

__all__ = [
    "DreamPlayer",
    "Explorer",
    "LotteryExplorer",
    "RewardHistogram",
    "Scrubber",
    "SymlogExplorer",
    "TrainingDashboard",
    "TwoHotExplorer",
]
