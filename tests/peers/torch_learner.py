"""One update after the other in PyTorch, as Springbok's learner makes them, and how many steps a second are trained on.

A batch of images goes from the host to the device; the network judges it without gradients; V-trace makes targets and
advantages; one optimiser step of clipped PPO follows; the parameters come back to the host. Networks, loss and optimiser
are those of `springbok bench learner` with one epoch of one minibatch, written as PyTorch's users write them.
"""

import argparse
import json
import time

import numpy
import torch
from torch import nn

SHAPE, ACTIONS, ROWS = (4, 84, 84), 6, 16
GAMMA, LAMBDA, CLIP = 0.99, 0.95, 0.2


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x):
        return x + self.layers(x)


def encoder(name):
    if name == "nature_conv":  # Mnih et al. 2015
        return nn.Sequential(
            nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(3136, 512), nn.ReLU()), 512
    layers, before = [], 4  # impala_resnet: Espeholt et al. 2018, figure 3
    for channels in (16, 32, 32):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.MaxPool2d(3, 2, 1), Residual(channels), Residual(channels)]
        before = channels
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(32 * 11 * 11, 256), nn.ReLU()), 256


class Network(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.encoder, features = encoder(name)
        self.policy, self.value = nn.Linear(features, ACTIONS), nn.Linear(features, 1)

    def forward(self, images):
        features = self.encoder(images.float() / 255)
        return torch.log_softmax(self.policy(features), 1), self.value(features).squeeze(1)


def v_trace(log_rhos, rewards, going_on, values):
    """Targets and advantages [T, B] for values [T + 1, B] (Espeholt et al. 2018, remark 1)."""
    rhos = log_rhos.exp().clamp(max=1)
    discounts = GAMMA * going_on
    deltas = rhos * (rewards + discounts * values[1:] - values[:-1])
    errors, later = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        later = deltas[t] + discounts[t] * LAMBDA * rhos[t] * later
        errors[t] = later
    ahead = torch.cat([errors[1:], torch.zeros_like(errors[:1])])
    return values[:-1] + errors, rewards + discounts * (values[1:] + LAMBDA * ahead) - values[:-1]


class Learner:
    def __init__(self, arguments):
        self.device = torch.device(arguments.device)
        self.plain = Network(arguments.network).to(self.device)
        self.network = torch.compile(self.plain) if arguments.compile else self.plain
        self.optimiser = torch.optim.Adam(self.plain.parameters(), lr=3e-4, eps=1e-5)
        self.columns = arguments.batch // ROWS
        random = numpy.random.default_rng(1)
        shape = (ROWS, self.columns)
        # On the host, where a trajectory arrives.
        self.images = random.integers(0, 256, ((ROWS + 1) * self.columns, *SHAPE), dtype=numpy.uint8)
        self.actions = random.integers(0, ACTIONS, shape)
        self.rewards = random.normal(size=shape).astype(numpy.float32)
        self.going_on = (random.random(shape) > 0.02).astype(numpy.float32)
        self.behaviour = numpy.full(shape, -numpy.log(ACTIONS), dtype=numpy.float32)

    def update(self):
        up = lambda array: torch.from_numpy(array).to(self.device)
        images, actions, behaviour = up(self.images), up(self.actions).flatten(), up(self.behaviour)
        steps = len(actions)
        taken = lambda log_probs: log_probs.gather(1, actions[:, None]).squeeze(1)
        with torch.no_grad():
            log_probs, values = self.network(images)
            proximal = taken(log_probs[:steps])
            log_rhos = proximal.view_as(behaviour) - behaviour
            targets, advantages = v_trace(
                log_rhos, up(self.rewards), up(self.going_on), values.view(ROWS + 1, self.columns))
            targets, advantages = targets.flatten(), advantages.flatten()
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            weights = log_rhos.flatten().exp().clamp(max=1)
        log_probs, values = self.network(images[:steps])
        ratio = (taken(log_probs) - proximal).exp()
        surrogate = torch.min(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
        entropy = -(log_probs.exp() * log_probs).sum(1).mean()
        loss = -(weights * surrogate).mean() + 0.5 * 0.5 * (values - targets).square().mean() - 0.01 * entropy
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.plain.parameters(), 0.5)
        self.optimiser.step()
        # What the actors get; this waits for the device.
        return torch.cat([own.detach().flatten() for own in self.plain.parameters()]).cpu()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=["nature_conv", "impala_resnet"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    torch.backends.cudnn.allow_tf32 = arguments.tf32
    learner = Learner(arguments)
    parameters = len(learner.update())
    learner.update()
    updates, begun = 0, time.perf_counter()
    while updates == 0 or time.perf_counter() - begun < arguments.seconds:
        learner.update()
        updates += 1
    pace = updates * arguments.batch / (time.perf_counter() - begun)
    print(json.dumps({"steps_per_s": pace, "parameters": parameters}))


if __name__ == "__main__":
    main()
