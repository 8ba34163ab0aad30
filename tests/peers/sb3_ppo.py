"""stable-baselines3's PPO on CartPole-v1 with its defaults: prints when 100 episodes first reached the threshold on average,
and the pace of the whole run. Called by compare.py."""

import argparse
import json
import time

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env


class Watch(BaseCallback):
    """Ends the run at the threshold, if there is one."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def _on_step(self):
        returns = [episode["r"] for episode in self.model.ep_info_buffer]
        reached = self.threshold is not None and len(returns) == 100 and np.mean(returns) >= self.threshold
        if reached:
            print(json.dumps({"reached": self.num_timesteps}), flush=True)
        return not reached


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--environments", type=int, default=1)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--threshold", type=float)
arguments = parser.parse_args()

environments = make_vec_env("CartPole-v1", arguments.environments, seed=arguments.seed)
model = PPO("MlpPolicy", environments, seed=arguments.seed, device="cpu")
begun = time.perf_counter()
model.learn(arguments.steps, callback=Watch(arguments.threshold))
seconds = time.perf_counter() - begun
print(json.dumps({"env_steps": model.num_timesteps, "env_steps_per_s": model.num_timesteps / seconds}), flush=True)
