"""What can be reached in the course's worlds: the mean returns of a random, a memoryless and the best policy.

They are computed from the rules of each world, not played and not learned.
"""

from __future__ import annotations

import itertools

import numpy as np

from dreamer_helpers.envs import VectorEnv
from dreamer_helpers.worlds import Catch, Orchard

Bounds = dict[str, float]


# --------------------------------------------------------------------------------------------------- T-maze


def tmaze(corridor: int = 4, steps: int = 12) -> Bounds:
    """Mean returns of three policies in :class:`worlds.TMaze`: ``random``, the best ``memoryless`` one, the ``best``.

    All deterministic functions from what is seen to an action are tried, (P,) at once. The best memoryless one must
    do well with both cues, the best of all may be chosen for each cue. A stochastic memoryless policy cannot beat 1/2
    either: which way it turns does not depend on the cue, and if its first step makes it slower with one cue, that
    only lowers its chance to turn at all.
    """
    seen = corridor + 3  # the start with either cue, then corridor + 1 places
    policies = np.array(list(itertools.product(range(4), repeat=seen)))  # (P, seen)
    returns = np.stack([_play_tmaze(policies, cue, corridor, steps) for cue in (0, 1)])  # (2, P)
    return {
        "random": _random_tmaze(corridor, steps),
        "memoryless": float(returns.mean(0).max()),
        "best": float(returns.max(1).mean()),
    }


def _play_tmaze(policies: np.ndarray, cue: int, corridor: int, steps: int) -> np.ndarray:
    """The return of each deterministic memoryless policy (P, seen) with one cue: (P,)."""
    every = np.arange(len(policies))
    position, running, returns = np.zeros(len(policies), int), np.ones(len(policies), bool), np.zeros(len(policies))
    for t in range(steps):
        action = policies[every, cue if t == 0 else 2 + position]
        turns = running & (position == corridor) & (action % 2 == 0)
        returns[turns] = action[turns] == 2 * cue  # 0 is up, for cue 0; 2 is down, for cue 1
        running &= ~turns
        position = np.clip(position + (action == 1) - (action == 3), 0, corridor)
    return returns


def _random_tmaze(corridor: int, steps: int) -> float:
    """The mean return of uniformly random actions, by following the chance to be at each place."""
    chance, total = np.eye(corridor + 1)[0], 0.0
    for _ in range(steps):
        total += chance[-1] / 4  # one action of four is the right turn
        following = chance / 2  # up and down change nothing in the corridor
        following[-1] = 0.0  # and end the episode at the junction
        following[1:] += chance[:-1] / 4
        following[-1] += chance[-1] / 4
        following[:-1] += chance[1:] / 4
        following[0] += chance[0] / 4
        chance = following
    return float(total)


# ---------------------------------------------------------------------------------------------------- Catch


def catch(changes: int = 1500, seed: int = 1) -> Bounds:
    """Mean returns over all starts of :class:`worlds.Catch`; ``memoryless`` is the best policy found, a lower bound.

    A memoryless policy is a table from (row, ball, paddle) to an action. As no row is seen twice in an episode, chance
    does not help: some table without chance is best. It is searched for by changing a few entries at random,
    ``changes`` times, and replacing row after row by the best actions given all other rows until nothing changes.
    What it finds is close to perfect: the place of the paddle can stand in for a memory.
    """
    balls, rng = _ball_paths(), np.random.default_rng(seed)
    shape = (Catch.SIZE - 1, Catch.SIZE, Catch.SIZE)
    best, policy = _improve(balls, rng.integers(3, size=shape))
    for _ in range(changes):
        changed = np.where(rng.random(shape) < 0.05, rng.integers(3, size=shape), policy)
        reached, changed = _improve(balls, changed)
        if reached >= best:
            best, policy = reached, changed
    return {
        "random": float(_backward(balls, None)[0].mean()),
        "memoryless": best,
        "best": float(_backward(balls, "best")[0].mean()),
    }


def _ball_paths() -> np.ndarray:
    """The ball's column in each row, for each column and drift that it can start with: (paths, rows)."""
    paths = []
    for ball, drift in itertools.product(range(Catch.SIZE), (-1, 1)):
        path = [ball]
        for _ in range(Catch.SIZE - 1):
            if not 0 <= path[-1] + drift < Catch.SIZE:
                drift = -drift
            path.append(path[-1] + drift)
        paths.append(path)
    return np.array(paths)


MOVED = np.clip(np.arange(Catch.SIZE)[:, None] + np.arange(-1, 2), 0, Catch.SIZE - 1)  # (paddle, action)


def _backward(balls: np.ndarray, policy: np.ndarray | str | None) -> np.ndarray:
    """Chance to catch from each row, path and paddle: (rows, paths, paddles).

    ``policy`` is a table (rows, ball, paddle) of actions, "best" for the best with memory, None for random actions.
    """
    values = [(balls[:, -1:] == np.arange(Catch.SIZE)).astype(float)]
    for row in reversed(range(Catch.SIZE - 1)):
        after = values[0][:, MOVED]  # (paths, paddles, actions)
        if isinstance(policy, np.ndarray):
            values.insert(0, np.take_along_axis(after, policy[row, balls[:, row]][..., None], -1)[..., 0])
        else:
            values.insert(0, after.mean(-1) if policy is None else after.max(-1))
    return np.stack(values)


def _improve(balls: np.ndarray, policy: np.ndarray) -> tuple[float, np.ndarray]:
    """The chance to catch of a memoryless policy (rows, ball, paddle) that no change of one row improves, and it."""
    size, policy, reached = Catch.SIZE, policy.copy(), -1.0
    while True:
        value = _backward(balls, policy)
        if value[0].mean() <= reached + 1e-12:
            return reached, policy
        reached = float(value[0].mean())
        occupied = np.ones((len(balls), size)) / (len(balls) * size)  # chance of each path and paddle in this row
        for row in range(size - 1):
            worth = occupied[..., None] * value[row + 1][:, MOVED]  # (paths, paddles, actions)
            for ball in range(size):
                policy[row, ball] = worth[balls[:, row] == ball].sum(0).argmax(-1)
            target = MOVED[np.arange(size), policy[row, balls[:, row]]]  # (paths, paddles)
            following = np.zeros_like(occupied)
            np.add.at(following, (np.arange(len(balls))[:, None], target), occupied)
            occupied = following


# -------------------------------------------------------------------------------------------------- Orchard


def orchard(layouts: int = 200, seed: int = 0) -> Bounds:
    """Mean returns in so many layouts of :class:`worlds.Orchard`, drawn from ``seed``.

    All three are exact, by going backwards through time over the fox's place and the apples left. ``memoryless`` is
    the policy that does what would be best if no episode were cut, which is decided by the picture alone.
    """
    world, returns = Orchard(), []
    for layout in range(layouts):
        world.reset(seed=seed * 1_000_000 + layout)
        returns.append([_orchard_value(world, policy) for policy in ("random", "memoryless", "best")])
    return dict(zip(("random", "memoryless", "best"), np.mean(returns, 0).tolist(), strict=True))


def _orchard_value(world: Orchard, policy: str, discount: float = 0.99) -> float:
    """The expected return of a policy in the layout that the world is in."""
    size, limit = world.SIZE, world.LIMIT
    apples = [(column, row) for name, column, row in world.things if name == "apple"]
    burrs = [(column, row) for name, column, row in world.things if name == "burr"]
    masks = np.arange(2 ** len(apples))  # of the apples left
    target = np.clip(np.arange(size)[:, None] + np.arange(-1, 2), 0, size - 1)  # (places, actions)
    value, planned = np.zeros((size, len(masks))), np.zeros((size, len(masks)))  # within the limit, and without one
    for t in reversed(range(10 * limit)):  # long enough for the plan to forget how it ends
        landing = {column: 0 for column, row in burrs if (row + t + 1) % size == size - 1}
        landing |= {c: 1 << i for i, (c, row) in enumerate(apples) if (row + t + 1) % size == size - 1}
        bit = np.array([landing.get(place, 0) for place in range(size)])
        hurt = np.array([landing.get(place) == 0 for place in range(size)])
        left = masks & ~bit[target][..., None]  # (places, actions, masks)
        reward = (left != masks) - hurt[target][..., None].astype(float)
        gains = reward + np.where(left == 0, 0.0, value[target[..., None], left])
        plans = reward + discount * np.where(left == 0, 0.0, planned[target[..., None], left])
        planned = plans.max(1)
        if t >= limit:
            continue
        if policy == "memoryless":
            value = np.take_along_axis(gains, plans.argmax(1)[:, None], 1)[:, 0]
        else:
            value = gains.mean(1) if policy == "random" else gains.max(1)
    return float(value[world.fox, -1])


# ------------------------------------------------------------------------------------------------- Pendulum


def pendulum(episodes: int = 100, seed: int = 1_000_000, points: int = 241, torques: int = 21) -> float:
    """The mean return of a nearly best policy on the episodes of Pendulum-v1 that ``evaluate.evaluate`` plays.

    Dynamic programming, backwards through the 200 steps, on a grid of angles and speeds with interpolation between its
    points; then the policy of the nearest point is played. Not a bound in the strict sense: a finer grid may do better.
    """
    angle, speed, torque = np.linspace(-np.pi, np.pi, points), np.linspace(-8, 8, points), np.linspace(-2, 2, torques)
    a, v, u = np.meshgrid(angle, speed, torque, indexing="ij")
    reward = (-(a**2) - 0.1 * v**2 - 0.001 * u**2).astype(np.float32)
    v = np.clip(v + 0.05 * (15 * np.sin(a) + 3 * u), -8, 8)  # g = 10, mass and length 1, steps of 0.05 s
    a = (a + 0.05 * v + np.pi) % (2 * np.pi) - np.pi
    row, column = (a + np.pi) / (2 * np.pi) * (points - 1), (v + 8) / 16 * (points - 1)
    i, j = (np.clip(x.astype(np.int32), 0, points - 2) for x in (row, column))
    right, up, at = (row - i).astype(np.float32), (column - j).astype(np.float32), i * points + j
    value, policy = np.zeros(points**2, np.float32), []
    for _ in range(200):
        below = (1 - right) * value[at] + right * value[at + points]
        above = (1 - right) * value[at + 1] + right * value[at + points + 1]
        worth = reward + (1 - up) * below + up * above
        policy.insert(0, worth.argmax(-1))
        value = worth.max(-1).ravel()
    return _play_pendulum(np.stack(policy), angle, speed, torque, episodes, seed)


def _play_pendulum(
    policy: np.ndarray, angle: np.ndarray, speed: np.ndarray, torque: np.ndarray, episodes: int, seed: int
) -> float:
    """Mean return of a table (steps, angles, speeds) of torques."""
    vector = VectorEnv("Pendulum-v1", 25, seed)
    total = 0.0
    vector.reset()
    for _ in range(episodes // 25):
        for t in range(len(policy)):
            states = np.stack([env.unwrapped.state for env in vector.envs])
            wrapped = (states[:, 0] + np.pi) % (2 * np.pi) - np.pi
            i = np.rint((wrapped - angle[0]) / (angle[1] - angle[0])).astype(int)
            j = np.rint((states[:, 1] - speed[0]) / (speed[1] - speed[0])).astype(int)
            action = torque[policy[t, i, j]] / 2  # in [-1, 1]
            total += float(vector.step(action[:, None].astype(np.float32))["reward"].sum())
        vector.step(np.zeros((25, 1), np.float32))  # begins the next episodes
    vector.close()
    return total / episodes
