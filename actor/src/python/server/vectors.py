"""A vector environment of a library, whichever way it resets; its rows become the one form that the actor knows."""

import time

from springbok_channel import Refusal, np
from springbok_singles import LIFE_LOST, TERMINATED, TRUNCATED, VOID
from springbok_spaces import Action, Observation

MODES = ("next_step", "same_step", "disabled")


def autoreset_of(env, given):
    """The way a vector environment resets, as it says itself or as the option `autoreset` does."""
    mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
    name = str(getattr(mode, "value", mode)).lower().replace("-", "_")
    name = {"nextstep": "next_step", "samestep": "same_step"}.get(name, name)
    if name not in MODES:
        name = given
    if name not in MODES:
        raise Refusal(
            "construction",
            f"the vector environment {type(env).__name__} does not say how it resets itself",
            'set the option `autoreset` to "next_step", "same_step" or "disabled"',
        )
    return name


def row_of(value, index):
    """Row `index` of a final observation: dense array, array of objects, or a dictionary or tuple of these."""
    if isinstance(value, dict):
        return {key: row_of(part, index) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(row_of(part, index) for part in value)
    return value[index]


class Vector:
    def __init__(self, env, autoreset, seeds_as, life_loss=False, steps_max=None):
        if np is None:
            raise Refusal("import", "vector environments need numpy", package="numpy")
        self.env, self.autoreset, self.seeds_as, self.life_loss = env, autoreset, seeds_as, life_loss
        self.steps_max = steps_max
        self.count = env.num_envs
        self.observation = Observation(env.single_observation_space)
        self.action = Action(env.single_action_space, env.action_space)
        self.ended = np.zeros(self.count, dtype=bool)
        self.lives = None
        self.has_masks = False

    def episode_steps_max(self):
        return self.steps_max

    def reset(self, seeds):
        if self.seeds_as == "list":
            seeds = list(seeds)
        elif self.seeds_as == "array":
            seeds = np.asarray(seeds, dtype=np.int64)
        else:
            seeds = seeds[0]
        self.begun, info = self.env.reset(seed=seeds)
        self.has_masks = "action_mask" in info
        self.begun_masks = np.asarray(info["action_mask"]) if self.has_masks else None
        self.lives = info.get("lives")
        if self.life_loss and self.lives is None:
            raise Refusal(
                "option",
                "`life_loss` is set, but the environment reports no `lives`",
                option="life_loss",
            )
        self.lives = None if self.lives is None else np.array(self.lives)

    def bind(self, shared):
        self.shared = shared
        self.observation.write_batch(self.begun, shared.observations)
        if self.has_masks:
            shared.masks[...] = self.begun_masks.reshape(shared.masks.shape)
        self.begun = self.begun_masks = None

    def step(self):
        shared = self.shared
        observations, rewards, terminated, truncated, info = self.env.step(self.action.batch(shared.actions))
        outcomes = shared.outcomes
        shared.rewards[...] = rewards
        np.multiply(truncated, np.uint8(TRUNCATED), out=outcomes, casting="unsafe")
        outcomes[terminated] = TERMINATED
        ended = outcomes != 0
        any_ended = bool(ended.any())
        if self.life_loss:
            self._life(info, ended)
        if self.autoreset == "same_step":
            if any_ended:
                self._finals(info)
        elif self.autoreset == "next_step":
            self._void(ended)
        self.observation.write_batch(observations, shared.observations)
        if any_ended and self.autoreset == "next_step":
            # The terminal observation stays for one more row.
            cut = outcomes == TRUNCATED
            shared.finals[cut] = shared.observations[cut]
        elif any_ended and self.autoreset == "disabled":
            info = self._reset_ended(ended, info)
        if self.has_masks:
            self._show_masks(info)

    def _void(self, ended):
        shared = self.shared
        if self.ended.any():
            shared.outcomes[self.ended] = VOID
            shared.rewards[self.ended] = 0
            ended = ended & ~self.ended
        self.ended = ended

    def _finals(self, info):
        for index in np.flatnonzero(self.shared.outcomes == TRUNCATED):
            final = info.get("final_obs", info.get("final_observation"))
            if final is None:
                raise ValueError("an episode was truncated, but the info has no `final_obs`")
            self.observation.write(row_of(final, index), self.shared.finals[index])

    def _reset_ended(self, ended, info):
        shared = self.shared
        cut = shared.outcomes == TRUNCATED
        shared.finals[cut] = shared.observations[cut]
        observations, after = self.env.reset(options={"reset_mask": ended})
        self.observation.write_batch(observations, shared.observations)
        if self.lives is not None and "lives" in after:
            self.lives[ended] = np.asarray(after["lives"])[ended]
        if self.has_masks:
            masks = np.array(info["action_mask"])
            masks[ended] = np.asarray(after["action_mask"])[ended]
            info = {"action_mask": masks}
        return info

    def _life(self, info, ended):
        if "lives" not in info:
            return
        now = np.array(info["lives"])
        lost = (now < self.lives) & ~ended & ~self.ended
        self.shared.outcomes[lost] = LIFE_LOST
        self.lives = now

    def _show_masks(self, info):
        masks = self.shared.masks
        if "action_mask" not in info:
            raise ValueError("a step has no `action_mask` in its info, but the reset had")
        masks[...] = np.asarray(info["action_mask"]).reshape(masks.shape)
        if self.autoreset == "next_step":
            # What follows an end is void, whatever is chosen; the terminal state may allow nothing.
            masks[self.ended] = 1

    def render(self, index):
        frames = self.env.render()
        return None if frames is None else frames[index]

    def bare(self, table, seconds):
        """Nothing but the environment itself, for comparison."""
        batches = [self.action.batch(rows) for rows in table]
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            for batch in batches:
                self.env.step(batch)
                steps += self.count
        return steps, time.perf_counter() - begun

    def close(self):
        self.env.close()
