"""Atari: the library's vector environment, or Gymnasium's wrappers; every setting on which the two differ is explicit."""

from springbok_factory import VECTORS, several
from springbok_vectors import Vector


class Settings:
    """The options of an `ALE/...` environment, with their defaults."""

    def __init__(self, options):
        share = lambda value: 0 <= value <= 1
        self.vector = options.word("vector", "auto", VECTORS)
        self.sticky = float(options.take("sticky", 0.25, (int, float), share, "a number from 0 to 1"))
        self.frame_skip = options.count("frame_skip", 4, 1, 64)
        self.frame_stack = options.count("frame_stack", 4, 1, 64)
        self.max_pool = options.flag("max_pool", True)
        self.screen_size = options.count("screen_size", 84, 8, 512)
        self.grayscale = options.flag("grayscale", True)
        self.noop_max = options.count("noop_max", 30, 0, 1000)
        self.fire_reset = options.flag("fire_reset", False)
        self.full_actions = options.flag("full_actions", False)
        self.life_loss = options.flag("life_loss", False)
        self.frames_max = options.count("frames_max", 108_000, 1, 2**31 - 1)
        self.threads = options.count("threads", 1, 0, 1024)
        options.done()

    def steps_max(self):
        return -(-self.frames_max // self.frame_skip)


def build_atari(gym, spec, options, count, render):
    settings = Settings(options)
    if settings.vector in ("auto", "library") and not render:
        return library(spec, settings, count)
    if settings.vector == "library":
        # The library's own environment cannot be drawn.
        options.refuse("vector", "library", '"auto", "sync" or "async" where the environment is to be watched')
    if not settings.max_pool:
        options.refuse("max_pool", False, 'true, or `vector` = "library"')
    vector = "async" if settings.vector == "async" else "sync"
    make = lambda: wrapped(gym, spec, settings, render)
    return several(gym, make, vector, count, settings.life_loss, settings.steps_max())


def library(spec, settings, count):
    import ale_py.vector_env

    env = ale_py.vector_env.AtariVectorEnv(
        spec.kwargs["game"],
        count,
        batch_size=0,
        num_threads=settings.threads,
        thread_affinity_offset=-1,
        max_num_frames_per_episode=settings.frames_max,
        repeat_action_probability=settings.sticky,
        full_action_space=settings.full_actions,
        continuous=False,
        autoreset_mode="SameStep",
        img_height=settings.screen_size,
        img_width=settings.screen_size,
        grayscale=settings.grayscale,
        stack_num=settings.frame_stack,
        frameskip=settings.frame_skip,
        maxpool=settings.max_pool,
        noop_max=settings.noop_max,
        use_fire_reset=settings.fire_reset,
        # Lives are reported by info, rewards as they are: what is made of either is the learner's choice.
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
    )
    run = Vector(env, "same_step", "array", settings.life_loss, settings.steps_max())
    run.back_end = type(env).__name__
    return run


def wrapped(gym, spec, settings, render):
    env = gym.make(
        spec.id,
        disable_env_checker=True,
        render_mode=render,
        frameskip=1,
        obs_type="rgb",
        repeat_action_probability=settings.sticky,
        full_action_space=settings.full_actions,
        max_num_frames_per_episode=settings.frames_max,
    )
    env = gym.wrappers.AtariPreprocessing(
        env,
        noop_max=settings.noop_max,
        frame_skip=settings.frame_skip,
        screen_size=settings.screen_size,
        terminal_on_life_loss=False,
        grayscale_obs=settings.grayscale,
        grayscale_newaxis=False,
        scale_obs=False,
    )
    if settings.fire_reset and "FIRE" in env.unwrapped.get_action_meanings():
        env = fire_reset(gym, env)
    return gym.wrappers.FrameStackObservation(env, settings.frame_stack, padding_type="zero")


def fire_reset(gym, env):
    fire = env.unwrapped.get_action_meanings().index("FIRE")

    class FireReset(gym.Wrapper):
        """Presses the button that starts the game."""

        def reset(self, **arguments):
            self.env.reset(**arguments)
            observation, _, terminated, truncated, info = self.env.step(fire)
            if terminated or truncated:
                return self.env.reset()
            return observation, info

    return FireReset(env)
