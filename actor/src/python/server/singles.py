"""K single environments, stepped one after the other; each is reset in the step in which it ends."""

import time

from springbok_channel import Refusal, np
from springbok_spaces import Action, Observation

CONTINUED, TERMINATED, TRUNCATED, LIFE_LOST, VOID = range(5)


def unwrapped(env):
    return getattr(env, "unwrapped", env)


class Singles:
    autoreset = "same_step"

    def __init__(self, envs, time_limit=None, life_loss=False, steps_max=None):
        """`time_limit` is enforced here; `steps_max` is a limit that the environments keep themselves."""
        first = envs[0]
        self.envs, self.time_limit, self.life_loss = envs, time_limit, life_loss
        self.steps_max = time_limit or steps_max
        self.observation = Observation(first.observation_space)
        self.action = Action(first.action_space)
        self.steps = [0] * len(envs)
        self.lives = [None] * len(envs)
        self.has_masks = False
        self.shared = None

    def episode_steps_max(self):
        if self.steps_max:
            return self.steps_max
        spec = getattr(self.envs[0], "spec", None)
        return getattr(spec, "max_episode_steps", None)

    def reset(self, seeds):
        self.begun = [self._reset(index, seed) for index, seed in enumerate(seeds)]
        self.has_masks = self._mask(0, self.begun[0][1]) is not None

    def _reset(self, index, seed=None):
        env = self.envs[index]
        begun = env.reset() if seed is None else env.reset(seed=seed)
        if not (isinstance(begun, tuple) and len(begun) == 2 and isinstance(begun[1], dict)):
            raise TypeError(
                f"reset() returned {type(begun).__name__}, but must return (observation, info) as in Gymnasium"
            )
        self.steps[index] = 0
        self.lives[index] = begun[1].get("lives")
        return begun

    def _mask(self, index, info):
        if "action_mask" in info:
            return info["action_mask"]
        ask = getattr(unwrapped(self.envs[index]), "action_masks", None)
        return ask() if callable(ask) else None

    def bind(self, shared):
        self.shared = shared
        for index, (observation, info) in enumerate(self.begun):
            self.observation.write(observation, shared.observations[index])
            self._show_mask(index, info)
        self.begun = None

    def _show_mask(self, index, info):
        if not self.has_masks:
            return
        mask = self._mask(index, info)
        if mask is None:
            raise ValueError("a state has no action mask, but the first one had")
        row = self.shared.masks[index]
        values = np.asarray(mask).reshape(-1) if np is not None else [int(choice) for choice in mask]
        if len(values) != len(row):
            raise ValueError(f"an action mask has {len(values)} entries, but there are {len(row)} choices")
        row[:] = values if np is not None else bytes(values)

    def step(self):
        shared = self.shared
        observations, rewards, outcomes = shared.observations, shared.rewards, shared.outcomes
        write = self.observation.write
        for index, action in enumerate(self.action.singles(shared.actions)):
            stepped = self.envs[index].step(action)
            if len(stepped) != 5:
                raise TypeError(f"step() returned {len(stepped)} values, but Gymnasium's has 5")
            observation, reward, terminated, truncated, info = stepped
            rewards[index] = reward
            self.steps[index] += 1
            outcome = CONTINUED
            if terminated:
                outcome = TERMINATED
            elif truncated or (self.time_limit and self.steps[index] >= self.time_limit):
                outcome = TRUNCATED
                write(observation, shared.finals[index])
            elif self.life_loss:
                outcome = self._life(index, info)
            if outcome in (TERMINATED, TRUNCATED):
                observation, info = self._reset(index)
            outcomes[index] = outcome
            write(observation, observations[index])
            self._show_mask(index, info)

    def _life(self, index, info):
        before, now = self.lives[index], info.get("lives")
        self.lives[index] = now
        if now is None or before is None:
            raise ValueError("`life_loss` is set, but the environment reports no `lives` in its info")
        return LIFE_LOST if now < before else CONTINUED

    def render(self, index):
        return self.envs[index].render()

    def bare(self, table, seconds):
        """Nothing but the environments themselves, for comparison."""
        batches = [self.action.singles(rows) for rows in table]
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            for batch in batches:
                for env, action in zip(self.envs, batch):
                    stepped = env.step(action)
                    if stepped[2] or stepped[3]:
                        env.reset()
                steps += len(batch)
        return steps, time.perf_counter() - begun

    def close(self):
        for env in self.envs:
            close = getattr(env, "close", None)
            if callable(close):
                close()


def check_single(env):
    for name in ("observation_space", "action_space", "reset", "step"):
        if not hasattr(env, name):
            raise Refusal(
                "construction",
                f"the factory made a {type(env).__name__}, which has no `{name}`",
                "return an environment as Gymnasium describes it",
            )
    return env
