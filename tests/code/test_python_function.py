"""The user's Python function: what it may return, and all its possible faults."""

from __future__ import annotations

from textwrap import dedent

import numpy as np
import pytest
from build import problem_of, right_gradients, spec_of
from paths import ROOT

from gradcheck_cli import Verdict, check, load_spec
from gradcheck_cli.code.objective import Change, Inputs, evaluate, read_inputs
from gradcheck_cli.code.python_function import read
from gradcheck_cli.errors import InputError
from gradcheck_cli.spec.gradients import CODE_MODELS, Code

WHERE = ("gradients", "python")

W = np.array([[0.5, -1.0, 2.0], [0.1, 0.2, 0.3]])
X = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]])
POINT = Inputs({"w": W, "b": np.array([0.5, -0.5])}, X, np.array([1, 0]))

RIGHT = """
    import numpy as np

    def f(p, x, y):
        z = x @ p["w"].T + p["b"]
        delta = z - np.eye(2)[y]
        return 0.5 * (delta**2).sum(axis=1), {"w": delta.T @ x, "b": delta.sum(axis=0)}
    """


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "net.py").write_text(dedent(text))
        return CODE_MODELS["python"](python=Code(tmp_path / "net.py", "f"))

    return write


@pytest.fixture
def returning(written):
    """Return a function that returns this expression of the right loss, the right gradients g, p, x and y."""

    def write(expression, before="", at_first=""):
        body = dedent(RIGHT).replace("def f(", "def right(")
        call = f"    loss, g = right(p, x, y)\n    {before}\n    return {expression}"
        return written(f"{body}\n{at_first}\ndef f(p, x, y):\n{call}")

    return write


def complaints_about(source, inputs=POINT):
    with pytest.raises(InputError) as caught:
        read(source, inputs)
    assert {complaint.where for complaint in caught.value.complaints} == {WHERE}
    return caught.value.complaints


def refused(source, inputs=POINT):
    (complaint,) = complaints_about(source, inputs)
    return complaint.message


def test_a_python_function_is_one_of_the_sources():
    assert CODE_MODELS["python"].kind.reader == read.__module__


# --- what is right ---------------------------------------------------------------------------------------


def test_losses_and_gradients_are_the_functions_own(written):
    function = read(written(RIGHT), POINT)
    z = X @ W.T + [0.5, -0.5] - np.eye(2)[[1, 0]]
    np.testing.assert_array_equal(function.losses(function.parameters), 0.5 * (z**2).sum(axis=1))
    gradients = function.gradients(function.parameters)
    np.testing.assert_array_equal(gradients["w"], z.T @ X)
    np.testing.assert_array_equal(gradients["b"], z.sum(axis=0))
    assert (function.origin, function.remarks) == ("f of net.py", ())


def test_it_can_be_evaluated_elsewhere(written):
    function = read(written(RIGHT), POINT)
    elsewhere = {name: array + 0.25 for name, array in function.parameters.items()}
    assert (function.losses(elsewhere) != function.losses(function.parameters)).any()
    assert (function.gradients(elsewhere)["w"] != function.gradients(function.parameters)["w"]).any()


@pytest.mark.parametrize("loss", ["loss.sum()", "float(loss.sum())", "[loss.sum()]", "np.array(loss.sum())"])
def test_a_loss_may_be_a_single_number(returning, loss):
    function = read(returning(f"{loss}, g"), POINT)
    losses = function.losses(function.parameters)
    assert (losses.shape, losses.dtype) == ((1,), np.float64)


def test_a_pair_may_be_a_list_and_gradients_lists_of_numbers(returning):
    function = read(returning("[loss, {'b': list(g['b']), 'w': g['w'].tolist()}]"), POINT)
    gradients = function.gradients(function.parameters)
    assert list(gradients) == ["w", "b"]
    assert gradients["w"].shape == (2, 3)


@pytest.mark.parametrize(
    ("written_as", "judged_as"),
    [("f8", "f8"), ("f4", "f4"), ("f2", "f2"), (">f4", "f4"), ("i8", "f8"), ("?", "f8"), ("g", "f8")],
)
def test_gradients_keep_the_type_they_were_computed_in(returning, written_as, judged_as):
    function = read(returning(f"loss, {{n: a.astype('{written_as}') for n, a in g.items()}}"), POINT)
    gradient = function.gradients(function.parameters)["w"]
    assert gradient.dtype == np.dtype(judged_as)
    assert gradient.dtype.isnative


def test_gradients_that_are_not_finite_are_wrong_rather_than_bad_input(returning):
    function = read(returning("loss, {**g, 'b': np.array([np.nan, np.inf])}"), POINT)
    np.testing.assert_array_equal(function.gradients(function.parameters)["b"], [np.nan, np.inf])


def test_arrays_that_are_reused_for_the_next_answer_do_not_change_the_last(returning):
    source = returning(
        "kept_loss, kept",
        "kept_loss[:] = loss; [kept[n].__setitem__(..., g[n]) for n in g]",
        "kept, kept_loss = {'w': np.zeros((2, 3)), 'b': np.zeros(2)}, np.zeros(2)",
    )
    function = read(source, POINT)
    losses, gradients = function.losses(function.parameters), function.gradients(function.parameters)
    before = losses.copy(), gradients["w"].copy()
    function.gradients({name: array + 1 for name, array in function.parameters.items()})
    np.testing.assert_array_equal(losses, before[0])
    np.testing.assert_array_equal(gradients["w"], before[1])


def test_what_it_prints_goes_to_stderr(returning, capsys):
    function = read(returning("loss, g", "print('hello')"), POINT)
    function.losses(function.parameters)
    out, err = capsys.readouterr()
    assert (out, err) == ("", 5 * "hello\n")


def test_a_function_may_take_what_it_is_given_out_of_the_dict(returning):
    function = read(returning("loss, g", "p.clear()"), POINT)
    function.losses(function.parameters)
    assert set(function.parameters) == {"w", "b"}


@pytest.mark.parametrize("gradient", ["p['w']", "x", "p['w'][:]"])
def test_a_gradient_in_the_memory_of_an_argument_is_noted(written, gradient):
    source = written(f"def f(p, x, y): return 1.0, {{'w': {gradient}}}")
    inputs = Inputs({"w": np.ones((2, 3))}, np.ones((2, 3)), None)
    argument = "x" if gradient == "x" else "parameter 'w'"
    assert read(source, inputs).remarks == (f"the gradient of 'w' shares the memory of {argument}",)


# --- what it starts from ---------------------------------------------------------------------------------

OWN = "def f(p, x, y): return (p['w'] ** 2).sum(), {'w': 2 * p['w']}\n"


@pytest.mark.parametrize(
    "parameters",
    [
        "parameters = {'w': [1.0, 2.0]}",
        "def parameters(): return {'w': (1, 2)}",
        "import numpy as np\nparameters = {'w': np.float32([1, 2])}",
    ],
)
def test_parameters_may_be_the_modules_own(written, parameters):
    function = read(written(OWN + parameters), Inputs(None, None, None))
    np.testing.assert_array_equal(function.parameters["w"], [1.0, 2.0])
    assert function.parameters["w"].dtype == np.float64


def test_parameters_of_the_spec_come_first(written):
    inputs = Inputs({"w": np.array([3, 4])}, None, None)
    function = read(written(OWN + "parameters = {'w': [1.0, 2.0]}"), inputs)
    np.testing.assert_array_equal(function.parameters["w"], [3.0, 4.0])


def test_without_any_parameters_it_says_what_to_do(written):
    (complaint,) = complaints_about(written(OWN), Inputs(None, None, None))
    assert complaint.message == (
        "f of net.py has no parameters to start from: neither the spec nor its file gives any"
    )
    assert complaint.help.startswith("define parameters in net.py")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("[1.0]", "parameters of net.py is a list; a dict of arrays by name is needed"),
        ("{}", "parameters of net.py is a dict; a dict of arrays by name is needed"),
        ("{'w': 'x'}", "'w' of parameters of net.py holds <U1; real numbers are needed"),
        ("{'w': [1j]}", "'w' of parameters of net.py holds complex128; real numbers are needed"),
        ("{'w': [float('nan')]}", "parameter 'w' holds numbers that are not finite"),
    ],
)
def test_impossible_parameters_are_refused(written, parameters, message):
    assert refused(written(f"{OWN}parameters = {parameters}"), Inputs(None, None, None)) == message


def test_parameters_of_the_spec_must_be_finite(written):
    with pytest.raises(InputError) as caught:
        read(written(OWN), Inputs({"w": np.array([np.inf])}, None, None))
    (complaint,) = caught.value.complaints
    assert complaint.where == ("parameters", "file")


@pytest.mark.parametrize("data", ["data = [[1.0, 2.0]], [3]", "def data(): return [[1.0, 2.0]], [3]"])
def test_data_may_be_the_modules_own(written, data):
    text = f"def f(p, x, y): return (x @ p['w'] - y).sum(), {{'w': x.sum(axis=0)}}\n{data}"
    function = read(written(text), Inputs({"w": np.array([1.0, 1.0])}, None, None))
    np.testing.assert_array_equal(function.losses(function.parameters), [0.0])


def test_data_of_the_spec_come_first(returning):
    assert read(returning("loss, g", at_first="data = None, None"), POINT)


def test_without_data_the_function_is_given_none(written):
    source = written("def f(p, x, y):\n    assert x is None and y is None\n    return 1.0, {'w': 0 * p['w']}")
    assert read(source, Inputs({"w": np.ones(2)}, None, None))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[1.0]", "data of net.py is a list; (x, y) is needed"),
        ("('a', 1)", "data of net.py holds <U1; real numbers are needed"),
    ],
)
def test_impossible_data_are_refused(written, data, message):
    assert refused(written(f"{OWN}data = {data}"), Inputs({"w": np.ones(2)}, None, None)) == message


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("None", "returns None; (loss, gradients) is needed"),
        ("1.0", "returns a float; (loss, gradients) is needed"),
        ("(loss, g, 3)", "returns 3 values; (loss, gradients) is needed"),
        ("(g, loss)", "returns a dict first; return the loss first, then the gradients"),
        ("'no', g", "returns a str for a loss; a number or one term per sample is needed"),
        ("None, g", "returns None for a loss; a number or one term per sample is needed"),
        ("1j, g", "returns a complex for a loss; a number or one term per sample is needed"),
        ("np.ones((2, 2)), g", "returns an array of shape [2, 2] for a loss; "),
        ("[], g", "returns an array of shape [0] for a loss; "),
        ("float('nan'), g", "returns nan for the loss; a finite number is needed"),
        ("loss / [1, 0], g", "returns inf for loss term 1 of 2; a finite number is needed"),
        (
            "loss, g['w']",
            "returns an array for the gradients; a dict of arrays by parameter name is needed",
        ),
        ("loss, {**g, 'b': None}", "returns None for the gradient of 'b'"),
        ("loss, {**g, 'b': ['x', 'y']}", "returns a list for the gradient of 'b'"),
        ("loss, {**g, 'b': g['b'] + 0j}", "returns numbers of type complex128 for the gradient of 'b'"),
    ],
)
def test_a_wrong_answer_is_refused(returning, expression, message):
    with np.errstate(all="ignore"):
        assert refused(returning(expression)).startswith(f"f of net.py {message}")


def test_missing_extra_misshapen_and_transposed_gradients_are_all_named(returning):
    found = complaints_about(returning("loss, {'w': g['w'].T, 'bias': g['b']}"))
    assert [complaint.message for complaint in found] == [
        "there is no gradient for 'b', of shape [2]",
        "the gradient for 'w' has shape [3, 2], not [2, 3]: it is transposed",
        "'bias' is not a parameter",
    ]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("raise ValueError('no')", "f of net.py raises ValueError at net.py:12: no"),
        ("import sys; sys.exit(3)", "f of net.py calls sys.exit(3) at net.py:12"),
        ("p['v']", "f of net.py raises KeyError at net.py:12: 'v'"),
    ],
)
def test_a_function_that_fails_is_refused_with_its_line(returning, statement, message):
    assert refused(returning("loss, g", statement)) == message


def test_a_function_that_takes_other_arguments_is_refused(written):
    message = refused(written("def f(p): return 1.0, {}"))
    assert message.startswith("f of net.py raises TypeError: f() takes 1 positional argument but 3 were")


def test_ctrl_c_passes(returning):
    with pytest.raises(KeyboardInterrupt):
        read(returning("loss, g", "raise KeyboardInterrupt"), POINT)


@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("p['w'] -= 0.1 * g['w']", "parameter 'w'"),
        ("p['b'][0] = 7", "parameter 'b'"),
        ("x *= 2", "x"),
        ("y[0] = 0", "y"),
        ("x.shape = (3, 2)", "x"),
        ("p['w'] += 1; x += 1", "parameter 'w' and x"),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting the shape")
def test_an_argument_changed_in_place_is_named(returning, statement, changed):
    inputs = Inputs(dict(POINT.parameters), POINT.x.copy(), POINT.y.copy())
    assert refused(returning("loss, g", statement), inputs) == f"f of net.py changes {changed} in place"


def test_a_random_loss_is_refused(returning):
    (complaint,) = complaints_about(
        returning("loss + rng.random(), g", at_first="rng = np.random.default_rng(0)")
    )
    assert complaint.message.startswith(
        "f of net.py returns different losses when called twice with the same arguments: "
    )
    assert "dropout" in complaint.help


def test_random_gradients_are_refused(returning):
    at_first = "rng = np.random.default_rng(0)"
    message = refused(returning("loss, {**g, 'w': g['w'] * rng.random((2, 3))}", at_first=at_first))
    assert (
        message
        == "f of net.py returns different gradients when called twice with the same arguments, for 'w'"
    )


def test_another_number_of_terms_is_another_loss(returning):
    message = refused(returning("loss[: len(calls)], g", "calls.append(1)", "calls = []"))
    assert "returns different losses" in message


def test_gradients_that_accumulate_are_named_as_such(returning):
    at_first = "total = {'w': np.zeros((2, 3)), 'b': np.zeros(2)}"
    (complaint,) = complaints_about(
        returning("loss, total", "[total[n].__iadd__(g[n]) for n in g]", at_first)
    )
    assert complaint.message == (
        "f of net.py seems to accumulate its gradients across calls: those of the second are 2 times those "
        "of the first, in 'w', 'b'"
    )


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_the_rounding_of_racing_threads_does_not_count_as_randomness(returning, scale):
    noisy = f"{{n: {scale} * a * (1 + 1e-14 * len(calls)) for n, a in g.items()}}"
    assert read(
        returning(f"loss * (1 + 1e-14 * len(calls)), {noisy}", "calls.append(1)", "calls = []"), POINT
    )


def test_a_gradient_that_is_nan_twice_is_the_same(returning):
    assert read(returning("loss, {**g, 'b': [float('nan'), 1.0]}"), POINT)


MOVED = {**POINT.parameters, "b": np.array([1.0, 1.0])}


def test_a_failure_at_perturbed_parameters_says_so(returning):
    function = read(returning("loss, g", "assert p['b'][0] == 0.5"), POINT)
    for call in (function.losses, function.gradients):
        with pytest.raises(
            InputError, match=r"with slightly changed parameters, f of .* raises AssertionError"
        ):
            call(MOVED)


def test_another_number_of_terms_at_perturbed_parameters_is_refused(returning):
    function = read(returning("loss if p['b'][0] == 0.5 else loss.sum(), g"), POINT)
    with pytest.raises(InputError, match="returns 1 loss terms, but it returned 2 before"):
        function.losses(MOVED)


def test_a_loss_that_is_infinite_elsewhere_gets_a_verdict(returning):
    function = read(returning("loss if p['b'][0] == 0.5 else loss * np.inf, g"), POINT)
    assert np.isinf(function.losses(MOVED)).all()


# --- other libraries -------------------------------------------------------------------------------------


def test_torch_tensors_are_accepted_as_arrays(written):
    pytest.importorskip("torch")
    text = """
        import torch

        def f(p, x, y):
            w = torch.tensor(p["w"], dtype=torch.bfloat16 if y else torch.float32, requires_grad=True)
            loss = (w**2).sum()
            loss.backward()
            return loss, {"w": w.grad}
        """
    for bfloat in (0, 1):
        function = read(written(text), Inputs({"w": np.array([1.0, 2.0])}, np.ones(1), np.array(bfloat)))
        gradient = function.gradients(function.parameters)["w"]
        np.testing.assert_array_equal(gradient, np.float32([2.0, 4.0]))
        assert gradient.dtype == np.float32


def test_jax_arrays_are_accepted_as_arrays(written):
    pytest.importorskip("jax")
    text = """
        import jax.numpy as jnp

        def f(p, x, y):
            w = jnp.asarray(p["w"], dtype=jnp.bfloat16)
            return (w**2).sum(), {"w": 2 * w}
        """
    function = read(written(text), Inputs({"w": np.array([1.0, 2.0])}, None, None))
    gradient = function.gradients(function.parameters)["w"]
    np.testing.assert_array_equal(gradient, np.float32([2.0, 4.0]))
    assert gradient.dtype == np.float32


# --- the whole line --------------------------------------------------------------------------------------

SPEC = """
    network:
      inputs: 3
      layers: [{units: 4, activation: tanh}, {units: 2}]
      loss: cross_entropy
    data: {synthetic: normal, samples: 6}
    gradients: {python: net.py:f}
    """
HAND = """
    import numpy as np

    def f(p, x, y):
        h = np.tanh(x @ p["hidden1.weight"].T + p["hidden1.bias"])
        e = np.exp(h @ p["output.weight"].T + p["output.bias"])
        q = e / e.sum(axis=1, keepdims=True)
        delta = (q - np.eye(2)[y]) / len(x)
        below = delta @ p["output.weight"] * (1 - h**2)
        return -np.log(q[np.arange(len(x)), y]) / len(x), {
            "output.weight": FACTOR * delta.T @ h,
            "output.bias": delta.sum(axis=0),
            "hidden1.weight": below.T @ x,
            "hidden1.bias": below.sum(axis=0),
        }
    """


@pytest.mark.parametrize(
    ("factor", "wrong"), [("1", []), ("2", ["output.weight"]), ("-1", ["output.weight"])]
)
def test_a_function_is_judged_tensor_by_tensor(tmp_path, factor, wrong):
    (tmp_path / "net.py").write_text(dedent(HAND).replace("FACTOR", factor))
    (tmp_path / "net.yaml").write_text(dedent(SPEC))
    report = check(load_spec(tmp_path / "net.yaml"))
    assert [c.name for c in report.comparisons if c.wrong.any()] == wrong
    assert report.unresolved == 0
    assert report.verdict is (Verdict.WRONG if wrong else Verdict.AGREES)
    assert not report.unusual


@pytest.mark.parametrize("returned", ["loss", "float(loss)", "np.float64(loss)"])
@pytest.mark.parametrize("factor", ["1", "1e-4"])
def test_a_loss_that_float32_keeps_from_changing_makes_no_gradient_wrong(tmp_path, returned, factor):
    """Next to 1e5, float32 shows no changes below 0.004: there is neither noise nor slope to see."""
    text = f"""
        import numpy as np

        parameters = {{"w": {factor} * np.linspace(0.1, 1.0, 6)}}

        def f(p, x, y):
            w = p["w"].astype(np.float32)
            loss = np.float32(1e5) + (w * w).sum()
            return {returned}, {{"w": 2 * w}}
        """
    (tmp_path / "net.py").write_text(dedent(text))
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    assert check(load_spec(tmp_path / "net.yaml")).verdict is Verdict.UNRESOLVED


def test_a_float32_function_is_judged_as_such(tmp_path):
    text = """
        import numpy as np

        parameters = {"w": np.linspace(0.1, 1.0, 6)}

        def f(p, x, y):
            w = p["w"].astype(np.float32)
            return np.tanh(w).sum(), {"w": FACTOR * (1 - np.tanh(w) ** 2)}
        """
    (tmp_path / "net.yaml").write_text("gradients: {python: net.py:f}")
    for factor, wrong in (("1", False), ("1.01", True)):
        (tmp_path / "net.py").write_text(dedent(text).replace("FACTOR", factor))
        assert (check(load_spec(tmp_path / "net.yaml")).verdict is Verdict.WRONG) is wrong


@pytest.mark.parametrize(
    ("y", "units", "dtype"),
    [([0, 1], 2, np.int64), ([[1, 0], [0, 1]], 2, np.float64), ([0, 1], 1, np.float64)],
)
def test_labels_of_a_spec_are_whole_and_targets_are_not(y, units, dtype):
    data = {"x": [[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]], "y": y}
    assert read_inputs(spec_of((units, "identity"), loss="mse", data=data)).y.dtype == dtype


def test_gradchecks_backprop_agrees_with_itself_through_a_function(written):
    problem = problem_of((3, "sigmoid"), (2, "sigmoid"))
    text = """
        import numpy as np

        def f(p, x, y):
            s = lambda z: 1 / (1 + np.exp(-z))
            h = s(x @ p["hidden1.weight"].T + p["hidden1.bias"])
            a = s(h @ p["output.weight"].T + p["output.bias"])
            delta = 2 * (a - np.eye(2)[y]) / len(x) * a * (1 - a)
            below = delta @ p["output.weight"] * h * (1 - h)
            gradients = {"output.weight": delta.T @ h, "output.bias": delta.sum(axis=0)}
            gradients |= {"hidden1.weight": below.T @ x, "hidden1.bias": below.sum(axis=0)}
            return ((a - np.eye(2)[y]) ** 2).sum(axis=1) / len(x), gradients
        """
    function = read(written(text), Inputs(problem.parameters, problem.x, problem.y, problem))
    gradients = function.gradients(function.parameters)
    for name, value in right_gradients(problem).items():
        np.testing.assert_allclose(gradients[name], value, rtol=1e-12, atol=1e-15)


def test_the_books_trap_is_ten_times_too_large_everywhere():
    report = check(load_spec(ROOT / "configs" / "code" / "book_trap.yaml"))
    assert report.verdict is Verdict.WRONG
    for comparison in report.comparisons:
        assert comparison.wrong.all()
        np.testing.assert_allclose(comparison.analytic, 10 * comparison.numerical, rtol=1e-5)


def test_softmax_regression_agrees():
    report = check(load_spec(ROOT / "configs" / "code" / "softmax_regression.yaml"))
    assert report.verdict is Verdict.AGREES


@pytest.mark.filterwarnings("default")
def test_a_network_in_jax_agrees():
    pytest.importorskip("jax")
    assert check(load_spec(ROOT / "tests" / "examples" / "jax_net.yaml")).verdict is Verdict.AGREES


# --- many points at once ---------------------------------------------------------------------------------

VECTORIZED = """
    import numpy as np

    def f(p, x, y):
        z = x @ np.swapaxes(p["w"], 1, 2) + p["b"][:, None] - np.eye(2)[y]
        loss = LOSS
        return loss, {"w": np.swapaxes(z, 1, 2) @ x, "b": z.sum(axis=1)}
"""


@pytest.fixture
def vectorized(written):
    def write(loss, text=VECTORIZED):
        return written(text.replace("LOSS", loss)).model_copy(update={"vectorized": True})

    return write


def test_a_vectorized_function_is_the_same_at_one_point_and_at_many(written, vectorized):
    one, many = read(written(RIGHT), POINT), read(vectorized("0.5 * (z * z).sum(axis=2)"), POINT)
    assert (one.vectorized, many.vectorized) == (False, True)
    points = [{n: array + 0.25 * k for n, array in one.parameters.items()} for k in range(3)]
    np.testing.assert_allclose(many.losses_at(points), one.losses_at(points), rtol=1e-14)
    np.testing.assert_allclose(many.losses(points[1]), one.losses(points[1]), rtol=1e-14)
    for name, gradient in many.gradients(points[2]).items():
        np.testing.assert_allclose(gradient, one.gradients(points[2])[name], rtol=1e-14)


def test_its_losses_may_be_totals(vectorized):
    function = read(vectorized("0.5 * (z * z).sum(axis=(1, 2))"), POINT)
    assert function.losses_at([function.parameters] * 5).shape == (5, 1)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("0.5 * (z * z).sum()", "returns a loss of shape [] for a stack of 2 points"),
        ("0.5 * (z * z).sum(axis=2)[:1]", "returns a loss of shape [1, 2] for a stack of 2 points"),
        ("0.5 * (z * z).sum(axis=(0, 2))", "returns a different result for a point in a stack"),
        ("0.5 * (z * z)[:, :, :1]", "returns an array of shape [2, 1] for a loss"),
        (
            "0.5 * ((z - z.mean(axis=0)) ** 2).sum(axis=2)",
            "returns a different result for a point in a stack",
        ),
    ],
)
def test_losses_that_are_not_those_of_a_stack_are_refused(vectorized, loss, message):
    assert message in refused(vectorized(loss))


def test_gradients_that_are_not_those_of_a_stack_are_refused(vectorized):
    text = VECTORIZED.replace("z.sum(axis=1)}", "z.sum(axis=(0, 1))[None]}")
    assert "the gradient of 'b' of shape [1, 2] for a stack of 2 points" in refused(
        vectorized("0.5 * (z * z).sum(axis=2)", text)
    )


def test_a_function_of_one_point_that_is_called_vectorized_gets_help(written):
    source = written(RIGHT).model_copy(update={"vectorized": True})
    (complaint,) = complaints_about(source)
    assert "a stack of 2 points" in complaint.message or "raises" in complaint.message


def test_stacks_are_of_few_sizes(vectorized):
    """A compiler compiles once for every size."""
    sizes = []
    function = read(vectorized("0.5 * (z * z).sum(axis=2)"), POINT)

    class Watched:
        vectorized = True
        parameters = function.parameters

        def losses_at(self, points):
            sizes.append(len(points))
            return function.losses_at(points)

    for count in range(1, 17):
        changes = [Change("b", np.array([0]), np.array([k / 8])) for k in range(count)]
        losses = evaluate(Watched(), function.parameters, changes)
        assert len(losses) == count
        assert len(np.unique(losses, axis=0)) == count
    assert set(sizes) == {1, 2, 4, 8, 16}
