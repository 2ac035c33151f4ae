"""Where a chat template pays: payments written into its syntax tree.

Jinja compiles a template to Python. Filters, calls and some operators pass through the environment,
which can count them; loops, outputs, comparisons, concatenations and slices become plain Python,
which nobody sees. So each of those gets a payment round it, as a filter whose name no template can
write. `puna.chat.bounded` says what each payment does.
"""

# ruff: noqa: D102, N802  (methods of a visitor are named after the nodes they visit)

from collections.abc import Sequence
from typing import Any

import jinja2.nodes as nodes
from jinja2.visitor import NodeTransformer

STEP = "puna step"  # one pass through a body, by its text
ITERATED = "puna iterated"  # what a loop will go through
LOOKED = "puna looked"  # a value, by its own length
WEIGHED = "puna weighed"  # a value with all that is inside it


class Payments(NodeTransformer):
    """Puts a payment round every expression that generated code works on by itself."""

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else _pay(WEIGHED, child)
            for child in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> Any:
        self.generic_visit(node)
        node.nodes = [_pay(WEIGHED, child) for child in node.nodes]
        return _pay(WEIGHED, node)  # a text by now

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        first = node.ops[0]
        is_equality = len(node.ops) == 1 and first.op in ("eq", "ne")
        if is_equality and isinstance(node.expr, nodes.Const) | isinstance(first.expr, nodes.Const):
            return node  # to compare takes no longer than the constant is
        is_lookup = all(operand.op in ("in", "notin") for operand in node.ops)
        node.expr = _pay(WEIGHED, node.expr)
        for operand in node.ops:
            operand.expr = _pay(LOOKED if is_lookup else WEIGHED, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> Any:
        self.generic_visit(node)
        return _pay(LOOKED, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Tuple(self, node: nodes.Tuple) -> Any:
        self.generic_visit(node)
        return _pay(WEIGHED, node) if node.ctx == "load" else node

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _pay(ITERATED, node.iter)
        node.body = [_step(node.body), *node.body]
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        self.generic_visit(node)
        node.body = [_step(node.body), *node.body]
        return node

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        self.generic_visit(node)
        node.body = [_step(node.body), *node.body]
        return node


def _pay(name: str, node: Any) -> Any:
    """Put a payment round an expression, unless it is as long as it is written or has paid."""
    if isinstance(node, nodes.Const) and name != STEP:
        return node
    if isinstance(node, nodes.Filter) and node.name == name:
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _step(body: Sequence[nodes.Node]) -> nodes.ExprStmt:
    """Pay for one pass through a body, by the text and the constants that stand in it."""
    kinds = (nodes.TemplateData, nodes.Const)
    written = [found for node in body for found in node.find_all(kinds)]
    written += [node for node in body if isinstance(node, kinds)]
    size = sum(len(str(found.as_const())) for found in written)
    line = body[0].lineno if body else 1
    return nodes.ExprStmt(_pay(STEP, nodes.Const(size, lineno=line)), lineno=line)
