"""Where randomness comes from: every place that draws, by a list of who may.

The sources are read as syntax trees, so a comment does not count and an alias does not hide anything. What a library
draws by itself is out of reach of this; runs are compared for that in ``test_unsafe_seed``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_MODULES = (
    "random",
    "secrets",
    "uuid",
    "numpy.random",
    "scipy.stats",
    "opendp",
    "cryptography",
    "Crypto",
    "jax.random",
)
_NAMES = frozenset({
    "os.urandom", "os.getrandom",
    *(f"torch.{name}" for name in (
        "Generator", "bernoulli", "default_generator", "dropout", "initial_seed", "manual_seed", "multinomial",
        "normal", "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "random",
        "randperm", "seed",
    )),
})  # fmt: skip
_METHODS = frozenset({
    "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "manual_seed", "manual_seed_all", "normal_",
    "random_", "random_state", "sample", "seed", "uniform_",
})  # fmt: skip

ALLOWED = {
    # Noise and secret choices.
    ("synth/mechanisms.py", "opendp.prelude"): "noise of every count and sum",
    ("synth/randomness.py", "os.urandom"): "noise of DP-SGD, Poisson coins, the record kept of a unit",
    ("synth/device.py", "torch.Generator"): "noise of DP-SGD on a GPU: a private generator with a secret seed",
    ("synth/device.py", ".manual_seed"): "the same generator, never a global one",
    ("synth/device.py", "torch.randn"): "the same generator",
    ("synth/randomness.py", "numpy.random.default_rng"): "runs that are stamped NOT PRIVATE",
    ("synth/randomness.py", "numpy.random.Generator"): "a type, the same generator",
    # Names and keys, which are no noise.
    ("synth/officer.py", "secrets.token_bytes"): "the split key",
    ("synth/officer.py", "secrets.token_hex"): "a temporary file's name",
    ("synth/workspace.py", "secrets.token_hex"): "a temporary file's name",
    ("synth/steps.py", "secrets.token_hex"): "a temporary file's name",
    ("synth/release/publish.py", "secrets.token_hex"): "a temporary folder's name",
    ("synth/cli/app.py", "secrets.token_hex"): "a run's id",
    ("synth/assembly.py", "secrets.token_hex"): "a release's version",
    ("dags/standalone.py", "secrets.token_urlsafe"): "passwords of the playground",
    ("synth/housekeeping.py", "secrets.token_hex"): "the name of a folder that is being removed",
    ("synth/settings.py", "secrets.token_bytes"): "a new workspace key",
    ("synth/sealing.py", "secrets.token_bytes"): "salts and nonces of encrypted artifacts",
    ("synth/sealing.py", "cryptography.exceptions.InvalidTag"): "encryption at rest",
    ("synth/sealing.py", "cryptography.hazmat.primitives.ciphers.aead.AESGCM"): "encryption at rest",
    ("synth/sealing.py", "cryptography.hazmat.primitives.hashes.SHA256"): "encryption at rest",
    ("synth/sealing.py", "cryptography.hazmat.primitives.kdf.hkdf.HKDF"): "encryption at rest",
    ("synth/checkpoints.py", "secrets.token_hex"): "who took a slot",
    # After the last look at private rows.
    ("synth/methods/tabular/dpdsyn.py", "numpy.random.default_rng"): "calibration on synthetic rows",
    ("synth/schema.py", "numpy.random.Generator"): "a type: the generator that decodes a finished model's codes",
    ("synth/identifiers.py", "numpy.random.default_rng"): "made-up identifiers of released rows",
    ("synth/methods/tabular/dpdsyn.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/methods/tabular/marginals.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/methods/tabular/drawing.py", "numpy.random.default_rng"): "drawing from a finished model",
    ("synth/methods/tabular/drawing.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/methods/tabular/mixture_model.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/methods/tabular/groups.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/methods/tabular/mixture.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/methods/tabular/mixture.py", "numpy.random.default_rng"): "where a fit to released tables starts",
    ("synth/methods/tabular/label_regression.py", "numpy.random.default_rng"): "rows drawn from a fitted mixture",
    **{
        (f"synth/constraints/{name}.py", "numpy.random.Generator"): "a type: the generator that draws released rows"
        for name in ("conditions", "keeping", "repair", "sampling")
    },
    ("synth/constraints/witness.py", "numpy.random.default_rng"): "rows of the public domain that satisfy all rules",
    ("synth/methods/tabular/network.py", "numpy.random.Generator"): "a type: the generator that draws released rows",
    ("synth/methods/tabular/network_model.py", "numpy.random.Generator"): "a type, the same generator",
    ("synth/further_rows.py", "numpy.random.default_rng"): "drawing from a finished model",
    ("synth/further_rows.py", "secrets.randbits"): "the published seed of further rows",
    ("synth/further_rows.py", "secrets.token_hex"): "a temporary file's name",
}


def sources() -> Iterator[Path]:
    for folder in ("synth", "operators", "dags"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def draws(text: str) -> Iterator[str]:
    """The dotted name of each random source that a module names, through whatever alias."""
    tree = ast.parse(text)
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.asname:
                    aliases[name.asname] = name.name
                else:
                    aliases[name.name.split(".")[0]] = name.name.split(".")[0]
                if _is_module(name.name) and name.name not in ("random", "secrets", "uuid", "numpy.random"):
                    yield name.name
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                aliases[name.asname or name.name] = whole
                if _is_source(whole) or _is_module(node.module or ""):
                    yield whole
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            dotted = _dotted(node, aliases)
            if dotted is not None and _is_source(dotted):
                yield dotted
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            dotted = _dotted(node.func, aliases)
            yield dotted if dotted is not None and _is_source(dotted) else f".{node.func.attr}"


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in aliases:
        return None
    return ".".join([aliases[node.id], *reversed(parts)])


def _is_module(dotted: str) -> bool:
    return any(dotted == module or dotted.startswith(f"{module}.") for module in _MODULES)


def _is_source(dotted: str) -> bool:
    if dotted.startswith("opendp"):
        return False  # its import is what counts
    return _is_module(dotted) or any(dotted == name or dotted.startswith(f"{name}.") for name in _NAMES)


def test_randomness_is_drawn_only_where_the_list_says() -> None:
    found = {(path.relative_to(ROOT).as_posix(), name) for path in sources() for name in draws(path.read_text("utf-8"))}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\nnp.random.normal(0, 1)",
        "import numpy as np\nnp.random.seed(0)",
        "from numpy.random import default_rng",
        "from numpy import random as r\nr.normal()",
        "import random\nrandom.gauss(0, 1)",
        "from random import gauss as g",
        "import torch\ntorch.manual_seed(0)",
        "import torch\ntorch.cuda.manual_seed_all(0)",
        "import torch\ntorch.randn(3)",
        "import torch as t\nt.normal(0, 1, (3,))",
        "from torch import randn_like",
        "x.normal_(0, 1)",
        "import torch\ntorch.Generator()",
        "from os import urandom",
        "import opendp.prelude as dp",
        "from scipy.stats import norm\nnorm.rvs(3)",
    ],
)
def test_other_sources_are_caught(text: str) -> None:
    assert list(draws(text))


@pytest.mark.parametrize(
    "text", ["import numpy as np\nnp.zeros(3)", "import torch\ntorch.zeros(3)", "# np.random.seed"]
)
def test_what_draws_nothing_is_not_listed(text: str) -> None:
    assert not list(draws(text))
