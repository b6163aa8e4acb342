"""Runs inside a bare interpreter of the build (see tools/pyz/compilers.py), which has no standard library.

Reads one job as marshal from standard input and writes its result to standard output:
``("compile", [(path, source)])`` → ``{path: content of a .pyc}``;
``("pack", (bytes, filters))`` → an .xz stream.
"""

import _ast
import _imp
import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER

ONLY_AST = 0x400  # ast.PyCF_ONLY_AST
FORMAT_XZ = 1
CHECK_CRC32 = 1
UNCHECKED_HASH = b"\1\0\0\0"

FUNCTIONS = (_ast.FunctionDef, _ast.AsyncFunctionDef)
DOCUMENTED = (_ast.Module, _ast.ClassDef, *FUNCTIONS)


def nodes(node):
    """Yield this node and everything below it."""
    yield node
    for field in node._fields:
        value = getattr(node, field, None)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, _ast.AST):
                yield from nodes(child)


def place(node):
    """Return where in the source this node is, for a node that replaces it."""
    return {name: getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}


def forget_docstring(node):
    """Drop the docstring of a module, class or function: a worker's memory is too good for it."""
    first = node.body[0] if node.body else None
    if (
        isinstance(first, _ast.Expr)
        and isinstance(first.value, _ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body[:1] = [_ast.Pass(**place(first))] if len(node.body) == 1 else []


def forget_types(node):
    """Drop what a function's parameters and result are annotated with: nothing asks for it when the program runs.

    What a class's attributes are annotated with stays: NamedTuple and the options are made from it.
    """
    node.returns = None
    arguments = node.args
    for each in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ):
        if each is not None:
            each.annotation = None


def forget_attributes_types(node):
    """The same for attributes, and with them the import that makes texts of annotations; for aero alone.

    Its NamedTuples take names and order from them. Of a text, typing makes an object that could be evaluated: 90 us and
    3 KiB for each such class.
    """
    if isinstance(node, _ast.AnnAssign):
        node.annotation = _ast.Constant(value=None, **place(node.annotation))
    if isinstance(node, _ast.Module):
        node.body = [
            each
            for each in node.body
            if not (isinstance(each, _ast.ImportFrom) and each.module == "__future__")
        ] or [_ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)]


def is_protocol(node):
    """Tell whether this is a class that a type checker compares others with: nothing is ever made of it."""
    return isinstance(node, _ast.ClassDef) and any(
        isinstance(base, _ast.Name) and base.id == "Protocol" for base in node.bases
    )


def hollow(node):
    """Leave of such a class its name: with its members and typing's part in it, each is 40 us and 3 KiB."""
    node.bases = []
    node.body = [_ast.Pass(**place(node))]


def is_constant_set(node):
    """Tell whether this is a set of constants, like {1, 2}.

    The compiler makes a frozenset of it, whose order in the byte code depends on a random seed before 3.11.
    """
    return isinstance(node, _ast.Set) and all(isinstance(element, _ast.Constant) for element in node.elts)


def as_tuple(node):
    """Return a tuple of the same constants."""
    return _ast.Tuple(elts=node.elts, ctx=_ast.Load(), **place(node))


def settle_sets(node):
    """Put tuples in the place of this node's sets of constants; where it must remain a set, fill it from one."""
    if isinstance(node, _ast.Compare):
        node.comparators = [
            as_tuple(value) if is_constant_set(value) else value for value in node.comparators
        ]
    elif isinstance(node, (_ast.For, _ast.AsyncFor, _ast.comprehension)) and is_constant_set(node.iter):
        node.iter = as_tuple(node.iter)
    elif is_constant_set(node):
        node.elts = [_ast.Starred(value=as_tuple(node), ctx=_ast.Load(), **place(node))]


def compiled(path, source):
    """Return the content of one module's .pyc: with a hash that is never checked (PEP 552), then the code."""
    name = f"<aero.pyz>/{path}"  # a traceback must not find another file of that name, and show its lines
    tree = compile(source, name, "exec", ONLY_AST, dont_inherit=True)
    for node in nodes(tree):
        if hasattr(node, "col_offset"):
            node.col_offset = node.end_col_offset = -1  # no columns: a traceback has no source to point into
        if isinstance(node, DOCUMENTED):
            forget_docstring(node)
        if isinstance(node, FUNCTIONS):
            forget_types(node)
        if path.startswith("aero/"):
            forget_attributes_types(node)
            if is_protocol(node):
                hollow(node)
        settle_sets(node)
    # The hash is another one since 3.11; whose byte code it is, whose hash.
    digest = _imp.source_hash(int.from_bytes(MAGIC_NUMBER, "little"), source)
    code = compile(tree, name, "exec", 0, dont_inherit=True, optimize=0)
    return MAGIC_NUMBER + UNCHECKED_HASH + digest + marshal.dumps(code)


def packed(content, filters):
    """Return content as an .xz stream."""
    import _lzma

    packer = _lzma.LZMACompressor(FORMAT_XZ, CHECK_CRC32, None, filters)
    return packer.compress(content) + packer.flush()


def run(_):
    """Do the job; the interpreter calls this as its program's main module."""
    kind, job = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 - the build itself wrote it
    if kind == "compile":
        result = {f"{path}c": compiled(path, source) for path, source in job}
    else:
        result = packed(*job)
    sys.stdout.buffer.write(marshal.dumps(result, 2))
