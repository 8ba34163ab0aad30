"""From an id and options to environments: `gym:ID`, `gym:module:ID` and `py:package.module:factory`."""

import importlib
import importlib.metadata
import inspect
import json
import multiprocessing
import sys

from springbok_channel import Refusal
from springbok_singles import Singles, check_single
from springbok_vectors import MODES, Vector, autoreset_of

# Modules that register the environments of a namespace, and the packages to install for them.
NAMESPACES = {"ALE": ("ale_py", "ale-py"), "MinAtar": ("minatar.gym", "MinAtar")}
PACKAGES = {"ale_py": "ale-py", "minatar": "MinAtar", "cv2": "opencv-python-headless", "pygame": "pygame"}
VECTORS = ("auto", "library", "sync", "async")


class Options:
    """The options given, taken one by one; what is left over is refused by name."""

    def __init__(self, given):
        self.left = dict(given)
        self.known = []

    def take(self, name, default, kind, check=None, limit=None):
        self.known.append(name)
        value = self.left.pop(name, default)
        if value is default:
            return value
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not fits or (check is not None and not check(value)):
            self.refuse(name, value, limit)
        return value

    def word(self, name, default, words):
        listed = ", ".join(f'"{word}"' for word in words)
        return self.take(name, default, str, lambda value: value in words, f"one of {listed}")

    def flag(self, name, default):
        return self.take(name, default, bool, None, "true or false")

    def count(self, name, default, least, most):
        within = lambda value: least <= value <= most
        return self.take(name, default, int, within, f"an integer from {least} to {most}")

    def refuse(self, name, value, limit):
        raise Refusal("option", f"{name} = {value!r}", option=name, value=json.dumps(value), limit=limit)

    def done(self):
        for name in self.left:
            raise Refusal("unknown_option", name, option=name, known=self.known)

    def rest_for(self, call, reserved=()):
        """What is left, as arguments of `call`, if its signature has them."""
        try:
            parameters = inspect.signature(call).parameters.values()
        except (TypeError, ValueError):
            return self.left
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            named = [
                parameter.name
                for parameter in parameters
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
                and parameter.name not in reserved
            ]
            self.known.extend(named)
            for name in self.left:
                if name not in named:
                    raise Refusal("unknown_option", name, option=name, known=self.known)
        return self.left


def build(request):
    scheme, _, name = request["id"].partition(":")
    options = Options(request["options"])
    count, render = len(request["seeds"]), "rgb_array" if request["render"] else None
    if scheme == "py":
        run = build_factory(name, options, count, render)
    else:
        run = build_gymnasium(name, options, count, render)
    run.back_end = run.back_end if hasattr(run, "back_end") else "single environments in turn"
    return run


def load(module, package=None):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.partition(".")[0] != module.partition(".")[0]:
            # The module is there, and something that it needs is not.
            raise
        raise Refusal("import", f"there is no Python module `{missing}`", package=package or missing) from error


def versions(id):
    names = {"python": sys.version.split()[0]}
    for module in ("numpy", "gymnasium", "ale_py", "minatar", "envpool"):
        if module in sys.modules:
            try:
                names[module] = importlib.metadata.version(PACKAGES.get(module, module))
            except importlib.metadata.PackageNotFoundError:
                pass
    return names


# === py: ===


def build_factory(name, options, count, render):
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise Refusal("construction", f"`py:{name}` names no factory", "write py:package.module:factory")
    factory = load(module_name)
    for part in path.split("."):
        if not hasattr(factory, part):
            raise Refusal("construction", f"the module `{module_name}` has no `{path}`", "name a callable in it")
        factory = getattr(factory, part)
    limit = options.count("time_limit", None, 1, 2**31 - 1)
    life_loss = options.flag("life_loss", False)
    autoreset = options.word("autoreset", None, MODES)
    arguments = options.rest_for(factory, ("num_envs", "render_mode"))
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        parameters = {}
    if render and "render_mode" in parameters:
        arguments = {**arguments, "render_mode": render}
    if "num_envs" not in parameters:
        first = check_single(factory(**arguments))
        rest = [check_single(factory(**arguments)) for _ in range(count - 1)]
        return Singles([first, *rest], limit, life_loss)
    env = factory(num_envs=count, **arguments)
    if not hasattr(env, "single_observation_space"):
        rest = [check_single(factory(num_envs=count, **arguments)) for _ in range(count - 1)]
        return Singles([check_single(env), *rest], limit, life_loss)
    if env.num_envs != count:
        raise Refusal("construction", f"the factory made {env.num_envs} environments instead of {count}")
    if limit:
        options.refuse("time_limit", limit, "absent: a vector environment keeps its own limit")
    seeds_as = "list" if type(env).__name__ in ("SyncVectorEnv", "AsyncVectorEnv") else "one"
    spec = getattr(env, "spec", None)
    steps_max = getattr(env, "max_episode_steps", None) or getattr(spec, "max_episode_steps", None)
    run = Vector(env, autoreset_of(env, autoreset), seeds_as, life_loss, steps_max)
    run.back_end = type(env).__name__
    return run


# === gym: ===


def build_gymnasium(name, options, count, render):
    gym = load("gymnasium", "gymnasium")
    module, _, id = name.rpartition(":")
    if module:
        load(module)
    namespace = id.partition("/")[0] if "/" in id else ""
    if namespace in NAMESPACES:
        module_name, package = NAMESPACES[namespace]
        register(gym, namespace, load(module_name, package))
    try:
        spec = gym.spec(id)
    except gym.error.Error as error:
        raise Refusal("construction", f"Gymnasium knows no such environment: {error}") from error
    if namespace == "ALE":
        from springbok_atari import build_atari

        return build_atari(gym, spec, options, count, render)
    return build_registered(gym, spec, options, count, render)


def register(gym, namespace, module):
    if namespace == "MinAtar" and not any(id.startswith("MinAtar/") for id in gym.registry):
        module.register_envs()
    elif namespace == "ALE" and not any(id.startswith("ALE/") for id in gym.registry):
        gym.register_envs(module)


def build_registered(gym, spec, options, count, render):
    vector = options.word("vector", "auto", VECTORS)
    limit = options.count("time_limit", None, 1, 2**31 - 1)
    life_loss = options.flag("life_loss", False)
    if vector == "auto":
        # A library that can only reset in a step of its own is still far faster than a loop over environments.
        vector = "library" if spec.vector_entry_point and not spec.additional_wrappers else "sync"
    point = spec.vector_entry_point if vector == "library" else spec.entry_point
    if point is None:
        options.refuse("vector", vector, '"sync" or "async": this environment has no vector environment of its own')
    creator = point if callable(point) else gym.envs.registration.load_env_creator(point)
    arguments = options.rest_for(creator, ("num_envs", "render_mode", "max_episode_steps"))
    if render:
        arguments = {**arguments, "render_mode": render}
    if limit:
        arguments = {**arguments, "max_episode_steps": limit}
    steps_max = limit or spec.max_episode_steps
    if vector == "library":
        env = gym.make_vec(spec.id, num_envs=count, vectorization_mode="vector_entry_point", **arguments)
        run = Vector(env, autoreset_of(env, None), "one", life_loss, steps_max)
        run.back_end = type(env.unwrapped).__name__
        return run
    make = lambda: gym.make(spec.id, disable_env_checker=True, **arguments)
    return several(gym, make, vector, count, life_loss, steps_max)


def several(gym, make, vector, count, life_loss, steps_max):
    if vector == "sync":
        run = Singles([make() for _ in range(count)], None, life_loss, steps_max)
    else:
        env = gym.vector.AsyncVectorEnv(
            [make] * count,
            shared_memory=True,
            copy=False,
            # Workers inherit the environments' code, which is in no file that they could import again.
            context="fork" if "fork" in multiprocessing.get_all_start_methods() else None,
            daemon=True,
            autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
        )
        run = Vector(env, "same_step", "list", life_loss, steps_max)
        run.back_end = type(env).__name__
    return run
