"""Play inside an agent's dream, with the keyboard or with buttons, and see the real world beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Self

import ipywidgets as widgets
import numpy as np
import torch

from dreamer_helpers import device as hardware
from dreamer_helpers.agent import AgentState, DreamerV3
from dreamer_helpers.envs import VectorEnv
from dreamer_helpers.video import GAP, Shown, png, side_by_side, to_uint8
from dreamer_helpers.widgets.base import LABEL, Described, NamedImage
from dreamer_helpers.widgets.player import CRISP
from dreamer_helpers.world_model import State

KEYS = {"ArrowLeft": 0, "ArrowDown": 1, "ArrowRight": 2, "ArrowUp": 1}

SIDES = "The world on the left, the dream on the right."

KEYBOARD = """
export default { render({ model, el }) {
    const box = document.createElement('div');
    box.tabIndex = 0;
    box.textContent = model.get('invitation');
    box.setAttribute('role', 'application');
    box.setAttribute('aria-label', model.get('invitation'));
    box.setAttribute('data-lm-suppress-shortcuts', 'true');  // JupyterLab leaves the arrow keys to us
    box.style.cssText = 'padding:.5em;border:1px solid currentColor;border-radius:4px;max-width:34em;cursor:pointer';
    let waiting = false;
    box.addEventListener('keydown', event => {
        if (!model.get('codes').includes(event.key)) return;
        event.preventDefault(); event.stopPropagation();
        if (waiting) return;  // one request at a time: a slow kernel makes a slow dream, not a queue
        waiting = true;
        model.send({ key: event.key });
    });
    model.on('msg:custom', () => { waiting = false; });
    el.appendChild(box);
} };
"""


class DreamPlayer(Described):
    """A world on the left, the agent's dream of it on the right; both get the player's actions.

    The agent watches ``context`` frames, in which nobody moves, then closes its eyes: from there on the dream sees
    nothing but the actions. ``buttons`` maps labels to actions, ``keys`` names of keyboard keys to actions.
    ``play([...])`` plays from code; ``copy().play([...])`` does so without touching the game that somebody plays
    here, and ``copy().restart(seed).play([...])`` begins a game of its own. Pages without a kernel show the game after
    the actions ``moment``. Random numbers come from a generator of its own, begun with ``seed``. Without the package
    anywidget there are the buttons alone.
    """

    def __init__(
        self, agent: DreamerV3, env: str, *, buttons: Mapping[str, int], keys: Mapping[str, int] = KEYS,
        stay: int = 1, context: int = 5, seed: int = 0, scale: int = 8, moment: Sequence[int] = (),
    ):  # fmt: skip
        self.agent, self.env, self.by_key, self.stay, self.context = agent, env, dict(keys), stay, context
        self.seed, self.scale, self.moment = seed, scale, moment
        height, width = self.agent.observation_space["image"].shape[:2]
        size = widgets.Layout(width=f"{scale * (2 * width + GAP)}px", height=f"{scale * height}px")
        self.picture = NamedImage(format="png", layout=size)
        self.picture.add_class("dreamer-pixels")
        self.words = widgets.HTML()
        row = [widgets.Button(description=label, layout=widgets.Layout(width="80px")) for label in buttons]
        for button, action in zip(row, buttons.values(), strict=True):
            button.on_click(lambda _, action=action: self.step(action))
        again = widgets.Button(description="new world", layout=widgets.Layout(width="100px"))
        again.on_click(lambda _: self.restart(self.seed + 1))
        self.restart(seed)
        keyboard = self._keyboard()
        column = f"display: inline-block; width: {scale * (width + GAP)}px"
        title = widgets.HTML(f'<span style="{column}">the world</span>the dream')
        below = [keyboard] if keyboard is not None else []
        super().__init__([
            widgets.HTML(CRISP), title, self.picture, self.words, widgets.HBox([*row, again]), *below,
        ])  # fmt: skip

    # ------------------------------------------------------------------------------------------------ playing

    def restart(self, seed: int) -> Self:
        """A new world; the agent watches it for ``context`` frames."""
        self.seed, self.taken = seed, []
        self.generator = hardware.new_generator(self.agent.device, seed)
        self.vector = VectorEnv(self.env, 1, seed)
        self.record, state, action = self.vector.reset(), None, self._action(self.stay)
        for watched in range(self.context):
            if watched:
                self.record = self.vector.step(action.cpu().numpy())
            _, state = self.agent.act(self.record, state, generator=self.generator)
            state = AgentState(state.latent, action)
        self.latent: State = state.latent
        self.returns = np.zeros(2)
        self.awake = True  # the world goes on; behind its end only the dream does
        self._show()
        return self

    @property
    def steps(self) -> int:
        """How many moves were made since the eyes closed."""
        return len(self.taken)

    def copy(self) -> Self:
        """A player of its own at the same point of the same game, the same random numbers ahead."""
        return super().copy().restart(self.seed).play(self.taken)

    def play(self, actions: Sequence[int]) -> Self:
        """Take these actions one after the other."""
        for action in actions:
            self.step(action)
        return self

    @torch.no_grad()
    def step(self, action: int) -> None:
        """One step in the world, if it has not ended, and one in the dream."""
        chosen, model = self._action(action), self.agent.world_model
        if self.awake:
            self.record = self.vector.step(chosen.cpu().numpy())
            self.returns[0] += self.record["reward"][0]
            self.awake = not self.record["is_last"][0]
        dream, _ = model.imagine(self.latent, lambda _: chosen, 1, self.generator)
        self.latent = State(dream.deter[:, 1], dream.stoch[:, 1])
        self.returns[1] += model.reward.mean(model.reward(self.latent.features)).item()
        self.taken.append(action)
        self._show()

    def _action(self, action: int) -> torch.Tensor:
        """An action in model form, (1, A), on the agent's device."""
        return torch.eye(self.agent.actions.dim, device=self.agent.device)[action : action + 1]

    @torch.no_grad()
    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """The world and the dream as they are now, (H, W, 3) uint8 each."""
        single = State(*(part[:, None] for part in self.latent))
        dreamed = self.agent.world_model.decode(single)["image"][0, 0].cpu().numpy()
        return self.record["image"][0], to_uint8(dreamed)

    def _show(self) -> None:
        world, dream = self.frames()
        self.picture.value = png(side_by_side([world[None], dream[None]])[0], self.scale)
        self.alt = (
            f"Step {self.steps} since the eyes closed. Rewards so far: {self.returns[0]:.0f} in the world"
            f"{'' if self.awake else ', which has ended'}, {self.returns[1]:.1f} in the dream."
        )
        self.picture.tooltip = f"{SIDES} {self.alt}"
        self.words.value = f'<div role="status">{escape(self.alt)}</div>'

    def still(self) -> bytes:
        """World and dream as they are now."""
        return self.picture.value

    def snapshot(self) -> Shown:
        """World and dream as they are now, or as ``moment`` makes them if nobody has played yet."""
        if self.moment and not self.taken:
            return self.copy().play(self.moment).snapshot()
        return Shown(self.still(), f"{SIDES} {self.alt}", f"{LABEL} {SIDES} {self.alt}")

    # ----------------------------------------------------------------------------------------------- keyboard

    def _keyboard(self) -> Any:
        try:
            import anywidget
            import traitlets
        except ImportError:
            return None

        class Keyboard(anywidget.AnyWidget):
            _esm = KEYBOARD
            codes = traitlets.List().tag(sync=True)
            invitation = traitlets.Unicode("Click here, then play with the arrow keys.").tag(sync=True)

        keyboard = Keyboard(codes=list(self.by_key))
        keyboard.on_msg(lambda widget, message, _: self._pressed(widget, message))
        return keyboard

    def _pressed(self, widget: Any, message: Any) -> None:
        try:
            if isinstance(message, dict) and message.get("key") in self.by_key:
                self.step(self.by_key[message["key"]])
        finally:
            widget.send({"done": True})
