"""The same forward and backward as a straight NumPy program, to be read and to be run."""

import keyword
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import TraceError
from gradfit.graph import numpy_arrays, numpy_losses, numpy_rules
from gradfit.graph.graph import Graph
from gradfit.graph.record import Call, Node, Ref
from gradfit.graph.writing import RULES, Arg, Back, NoRuleError, Op, Shape, View, Written, reduced

Array = NDArray[Any]

_LOADED = (numpy_arrays, numpy_losses, numpy_rules)  # importing them fills RULES


@dataclass(frozen=True, repr=False)
class Program:
    """A NumPy program: ``print`` it, or ``run`` it.

    Attributes
    ----------
    source : str
        One function, ``program(a, x, ...)``, that returns the results and the gradients by name.
    inputs : dict
        The recorded values of its arguments.
    leaves : dict
        Name in the program, for the number of each leaf that has a gradient.
    """

    source: str
    inputs: Mapping[str, Array]
    leaves: Mapping[int, str]

    def run(self, **changes: Any) -> tuple[tuple[Array, ...], dict[str, Array]]:
        """Run it on the recorded inputs, or with some of them changed.

        Returns
        -------
        results : tuple of ndarray
        gradients : dict
            By the name of the leaf.
        """
        unknown = changes.keys() - self.inputs.keys()
        if unknown:
            raise TraceError(f"no input is called {min(unknown)!r}; inputs: {list(self.inputs)}")
        space: dict[str, Any] = {}
        # What runs is what `source` shows: written here, from rules and numbers only.
        exec(compile(self.source, "<numpy program>", "exec"), space)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # torch is silent about empty means
            return space["program"](**{**self.inputs, **changes})

    def __str__(self) -> str:
        return self.source

    __repr__ = __str__


def to_numpy(graph: Graph) -> Program:
    """Write a graph as a NumPy program; see :meth:`gradfit.graph.Graph.to_numpy`."""
    return _Writer(graph).program()


class _Writer:
    """Writes the program line by line, forward as the graph goes and backward against it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names: dict[int, str] = {}
        self.inputs: dict[str, Array] = {}
        self.forward: list[tuple[str, str]] = []
        self.backward: list[tuple[str, str]] = []
        self.backs: dict[int, list[Back]] = {}
        self.whole_backs: dict[int, tuple[int, View]] = {}  # write -> what it overwrote, and where
        self.views: dict[int, tuple[int, tuple[View, ...]]] = {}
        self.missing: list[str] = []
        self._fresh = (f"t{number}" for number in count(1))

    def program(self) -> Program:
        for node in self.graph:
            if node.kind != "read" and node.id not in self.names:
                self._write(node)
        if any(backward.weighted for backward in self.graph.backwards):
            raise TraceError("no NumPy program: backward() was given what to start from")
        if self.missing:
            raise TraceError(f"no NumPy rule for {', '.join(dict.fromkeys(self.missing))}")
        started = self._write_backward()
        leaves = {leaf.id: self.names[leaf.id] for leaf in self.graph.leaves if leaf.id in started}
        results = ", ".join(self.names[number] for number in self.graph.results)
        results += "," if len(self.graph.results) == 1 else ""
        grads = ", ".join(f'"{name}": grad_{name}' for name in leaves.values())
        lines = [
            "import numpy as np",
            "",
            "",
            f"def program({', '.join(self.inputs)}):",
            "    # forward",
            *_aligned(self.forward),
            "",
            "    # backward",
            *_aligned(self.backward),
            "",
            f"    return ({results}), {{{grads}}}",
            "",
        ]
        return Program("\n".join(lines), dict(self.inputs), leaves)

    # -- forward -----------------------------------------------------------------------------------

    def _write(self, node: Node) -> None:
        if node.call is None or node.kind != "op":
            self._without_call(node)
            return
        try:
            if node.custom is not None:
                raise NoRuleError
            if node.writes is not None:
                self._write_in_place(node, node.call)
            elif node.value is not None:
                self._write_op(node, node.call, [node])
            else:
                self._write_op(node, node.call, self._outputs(node))
        except (NoRuleError, TypeError, AttributeError):  # no rule for it, or for these arguments
            self._give_up(node)

    def _without_call(self, node: Node) -> None:
        old = node.writes
        if node.value is None:
            return
        if old is not None and node.op not in ("changed", "written") and node.kind == "op":
            root, views = node.inputs[0].source, self.views.get(old, (0, ()))[1]
            self._name(node)
            self.views[node.id] = root, views
            place = _through(views)
            self._line(f"{self.names[node.id]} = {place(self.names[root])}", node)
            into = Arg.of(self.names[root], root, self._shape(root))
            self.backs[node.id] = [Back(into, self._grad(node.id), into.shape, place)]
        elif node.requires_grad and not node.is_end:
            self._give_up(node)
        else:
            self._input(node)

    def _give_up(self, node: Node) -> None:
        """Take the recorded value; where a gradient passes, that is not enough."""
        self.names.pop(node.id, None)
        if node.requires_grad:
            where = f" (line {node.source.line})" if node.source else ""
            self.missing.append(f"`{node.op}`{where}")
        if node.value is not None:
            self._input(node)

    def _input(self, node: Node) -> None:
        value = node.value
        if value is None or value.values is None:
            raise TraceError(f"the values of `{node.label}` were too big to keep; see trace(keep=)")
        self._name(node)
        values = value.values
        self.inputs[self.names[node.id]] = (
            values.astype(np.float64) if values.dtype.kind == "f" else values
        )

    def _write_op(self, node: Node, call: Call, outputs: list[Node]) -> None:
        rule = self._rule(call)
        for output in outputs:
            if output.value is None or output.value.dtype.startswith("complex"):
                raise NoRuleError
        for output in outputs:
            self._name(output)
        names = [(self.names[o.id], o) for o in outputs]
        op = Op([(name, f"grad_{name}", self._shape(o.id)) for name, o in names])
        rule(op, *self._filled(call.args), **self._filled(dict(call.kwargs)))
        if len(op.outputs) != len(outputs):
            raise NoRuleError
        for (name, output), written in zip(names, op.outputs, strict=True):
            self._line(f"{name} = {written.text}", output)
            self.backs[output.id] = written.backs
            if written.view is not None:
                root, views = self.views.get(node.inputs[0].source, (node.inputs[0].source, ()))
                self.views[output.id] = root, (*views, written.view)

    def _write_in_place(self, node: Node, call: Call) -> None:
        """Write to a fresh copy, so that no array of the program ever changes."""
        old, target = node.writes, self._target(call)
        flows = any(edge.flows for edge in node.inputs)
        if old is None or target is None or (node.in_no_grad and flows):
            raise NoRuleError
        root, views = self.views.get(target, (target, ()))
        if old not in (root, target):
            raise NoRuleError
        place = _through(views if old == root else ())
        name = self._choose(node)
        y, g = place(name), place(f"grad_{name}")
        args, kwargs = self._filled(call.args), self._filled(dict(call.kwargs))
        kwargs.pop("out", None)
        kwargs.pop("inplace", None)
        if _bare(call) == "setitem":
            written = self._set_item(call, args, g)
            index = numpy_arrays.index_text(args[1])[0]
            self._copy_and_set(node, name, old, f"{y}[{index}]", written.text)
            self.whole_backs[node.id] = old, lambda t: f"{place(t)}[{index}]"
        else:
            op = Op([(y, g, self._shape(target))])
            self._rule(call)(op, *args, **kwargs)
            (written,) = op.outputs
            own = [back for back in written.backs if back.arg.node == target]
            written.backs = [back for back in written.backs if back.arg.node != target]
            base = Arg.of(self.names[old], old, self._shape(old))
            if y == name:
                self._line(f"{name} = {written.text}", node)
                written.backs += [Back(base, back.text, back.shape) for back in own]
            else:
                self._copy_and_set(node, name, old, _assignable(y), written.text)
                self.whole_backs[node.id] = old, lambda t: _assignable(place(t))
                written.backs += [Back(base, back.text, back.shape, place) for back in own]
        self.names[node.id] = name
        if node.in_no_grad:
            self.whole_backs.pop(node.id, None)
        else:
            self.backs[node.id] = written.backs

    def _set_item(self, call: Call, args: Any, g: str) -> Written:
        target, index, value = args
        text = numpy_arrays.index_text(index)[0]
        written = Written(value if isinstance(value, Arg) else repr(value))
        if isinstance(value, Arg):
            known = self._recorded(call.args[1])
            region = np.broadcast_to(np.zeros(()), target.shape)[known].shape
            written.backs.append(Back(value, f"{g}[{text}]", region))
        return written

    def _copy_and_set(self, node: Node, name: str, old: int, place: str, text: str) -> None:
        self._line(f"{name} = np.array({self.names[old]})", None)
        self._line(f"{place} = {text}", node)

    # -- backward ----------------------------------------------------------------------------------

    def _write_backward(self) -> set[int]:
        started: set[int] = set()
        for backward in self.graph.backwards:
            for root in backward.roots:
                grad, one = self._grad(root), f"np.ones({self._shape(root)})"
                self._step(f"{grad} = {grad} + {one}" if root in started else f"{grad} = {one}", "")
                started.add(root)
        for node in reversed(self.graph.nodes):
            if node.id not in started:
                continue
            if node.id in self.whole_backs:
                self._keep_rest(node, started)
            for back in self.backs.get(node.id, []):
                if self.graph[back.arg.node].requires_grad:
                    self._send(back, node, started)
        return started

    def _keep_rest(self, node: Node, started: set[int]) -> None:
        """Pass on the gradient of what a write left alone; what it overwrote gets none."""
        old, place = self.whole_backs[node.id]
        if not self.graph[old].requires_grad:
            return
        rest = f"rest_{self.names[node.id]}"
        self._step(f"{rest} = np.array({self._grad(node.id)})", node.expr)
        self._step(f"{place(rest)} = 0", "")
        self._add(old, rest, node, started)

    def _send(self, back: Back, node: Node, started: set[int]) -> None:
        if back.into is None:
            self._add(back.arg.node, reduced(back.text, back.shape, back.arg.shape), node, started)
            return
        part = f"part_{self.names[node.id]}"
        self._step(f"{part} = np.zeros({back.arg.shape})", node.expr)
        if back.adds:
            self._step(f"np.add.at({part}, np.s_[{back.into('')[1:-1]}], {back.text})", "")
        else:
            self._step(f"{_assignable(back.into(part))} += {back.text}", "")
        self._add(back.arg.node, part, node, started)

    def _add(self, target: int, text: str, node: Node, started: set[int]) -> None:
        grad = self._grad(target)
        text = f"{grad} + {text}" if target in started else text
        started.add(target)
        self._step(f"{grad} = {text}", node.expr)

    # -- words -------------------------------------------------------------------------------------

    def _rule(self, call: Call) -> Any:
        try:
            return RULES[_bare(call)]
        except KeyError:
            raise NoRuleError(call.name) from None

    def _target(self, call: Call) -> int | None:
        target = call.kwargs.get("out", call.args[0] if call.args else None)
        return target.node if isinstance(target, Ref) else None

    def _outputs(self, head: Node) -> list[Node]:
        users = (self.graph[use] for use in self.graph.uses[head.id])
        return [user for user in users if user.output is not None]

    def _shape(self, number: int) -> Shape:
        value = self.graph[number].value
        return value.shape if value is not None else ()

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return Arg.of(self.names[value.node], value.node, self._shape(value.node))
        if isinstance(value, (list, tuple)):
            return type(value)(self._filled(each) for each in value)
        if isinstance(value, dict):
            return {key: self._filled(each) for key, each in value.items()}
        if isinstance(value, slice):
            return slice(*map(self._filled, (value.start, value.stop, value.step)))
        return value

    def _recorded(self, value: Any) -> Any:
        if isinstance(value, Ref):
            snapshot = self.graph[value.node].value
            return None if snapshot is None else snapshot.values
        if isinstance(value, (list, tuple)):
            return type(value)(self._recorded(each) for each in value)
        return value

    def _name(self, node: Node) -> None:
        self.names[node.id] = self._choose(node)

    def _choose(self, node: Node) -> str:
        name = (node.name or "").replace(".", "_").replace("[", "_").rstrip("]")
        usable = name.isidentifier() and not keyword.iskeyword(name) and name != "np"
        if not usable or name.startswith(("grad_", "part_", "rest_")):
            return next(self._fresh)
        taken = set(self.names.values())
        options = (f"{name}_{number}" for number in count(1))
        return name if name not in taken else next(o for o in options if o not in taken)

    def _grad(self, number: int) -> str:
        return f"grad_{self.names[number]}"

    def _line(self, code: str, node: Node | None) -> None:
        self.forward.append((code, node.expr or node.op if node else ""))

    def _step(self, code: str, comment: str) -> None:
        self.backward.append((code, comment))


def _through(views: tuple[View, ...]) -> View:
    def place(text: str) -> str:
        for view in views:
            text = view(text)
        return text

    return place


def _assignable(text: str) -> str:
    return text if text.endswith("]") or text.isidentifier() else f"{text}[...]"


def _bare(call: Call) -> str:
    path = call.name.removesuffix(".__get__").removesuffix(".__set__")
    return path.rsplit(".", 1)[-1].strip("_")


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    width = min(max((len(code) for code, _ in lines), default=0), 48)
    return [f"    {code:<{width}}  # {comment}".rstrip(" #") for code, comment in lines]
