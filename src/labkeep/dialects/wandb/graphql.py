"""GraphQL: our schema, made executable by tables of resolvers, and documents that are parsed and checked once.

A resolver is a plain function ``(source, context, **arguments)``. Documents run in a thread, because resolvers wait for
the database.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeGuard

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    ObjectValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    build_schema,
    execute,
    get_named_type,
    parse,
    specified_rules,
    validate,
)
from graphql.pyutils import Undefined
from graphql.validation import NoUnusedVariablesRule, ScalarLeafsRule

from labkeep.core.errors import Invalid, TooLarge, Unsupported

Resolver = Callable[..., Any]
Resolvers = Mapping[str, Mapping[str, Resolver]]
"""Type -> field -> its resolver."""

MAX_TEXT = 100_000
"""Characters of a document."""

MAX_DEPTH = 25
"""Fields within fields."""

MAX_FIELDS = 2_000
"""Fields of a document, fragments counted wherever they are used."""

MAX_DOCUMENTS = 512
"""Documents that are remembered."""


class _LeavesRule(ScalarLeafsRule):
    """What is plain JSON here is an object with fields there: it may be asked for in either way, and comes as a whole."""

    def enter_field(self, node: FieldNode, *rest: Any) -> None:
        kind = self.context.get_type()
        if kind is None or get_named_type(kind).name != "JSON":
            super().enter_field(node, *rest)


# The vendor's client sends variables that its own documents do not use.
_RULES = tuple(
    _LeavesRule if rule is ScalarLeafsRule else rule for rule in specified_rules if rule is not NoUnusedVariablesRule
)


class Place(NamedTuple):
    """Where a document names an entity: by a variable or else a text, or by a variable that is an object with that key."""

    text: str = ""
    variable: str = ""
    key: str = ""


class Document(NamedTuple):
    """A document that is known to be valid."""

    node: DocumentNode
    writes: bool
    entities: tuple[Place, ...] = ()

    def entity(self, variables: Mapping[str, Any]) -> str:
        """The entity that is meant, empty when none is named. Invalid for several: a request is for one of them."""
        found = {_value_at(place, variables) for place in self.entities} - {""}
        if len(found) > 1:
            raise Invalid(f"one request is for one entity; this one names {', '.join(sorted(found))[:200]}")
        return found.pop() if found else ""


class Engine:
    """An executable schema with its cache of documents. Every method may be called from any thread."""

    def __init__(self, sdl: Path, resolvers: Resolvers, types: Mapping[str, Callable[[Any], str]]) -> None:
        self.schema = build_schema(sdl.read_text(encoding="utf-8"))
        _attach(self.schema, resolvers)
        for name, which in types.items():
            interface = self.schema.type_map[name]
            assert isinstance(interface, GraphQLInterfaceType)
            interface.resolve_type = lambda value, _info, _type, which=which: which(value)
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self._lock = Lock()

    def document(self, text: str) -> Document:
        """The checked document. Invalid when it is none, Unsupported when it asks for what the schema has not got."""
        found = self._documents.get(text)
        if found is None:
            found = self._checked(text)
            with self._lock:
                self._documents[text] = found
                if len(self._documents) > MAX_DOCUMENTS:
                    self._documents.popitem(last=False)
        return found

    def _checked(self, text: str) -> Document:
        if len(text) > MAX_TEXT:
            raise TooLarge(f"the document has {len(text)} characters; at most {MAX_TEXT} are taken", limit=MAX_TEXT)
        try:
            node = parse(text, no_location=True, max_tokens=MAX_TEXT)
        except (GraphQLError, RecursionError) as error:
            raise Invalid(f"the document cannot be read: {error}", path="query") from None
        _check_size(node)
        self._check_offered(node)
        faults = validate(self.schema, node, _RULES, max_errors=1)
        if faults:
            raise Unsupported(f"{_name_of(node)} is not supported by this server: {faults[0].message}", path="query")
        kinds = [each.operation for each in node.definitions if isinstance(each, OperationDefinitionNode)]
        return Document(node, OperationType.MUTATION in kinds, tuple(_entities(node)))

    def _check_offered(self, node: DocumentNode) -> None:
        """Name the operation that is missing, before the validator speaks of types that come with it."""
        for definition in node.definitions:
            if not isinstance(definition, OperationDefinitionNode):
                continue
            root = self.schema.get_root_type(definition.operation)
            for field in definition.selection_set.selections:
                if isinstance(field, FieldNode) and not _answered(root, field.name.value):
                    raise Unsupported(
                        f"{definition.operation.value} {field.name.value} is not supported by this server",
                        operation=field.name.value,
                    )

    def run(self, document: Document, variables: Mapping[str, Any], name: str | None, context: Any) -> Any:
        """The data that the document asks for. Raises what the first resolver that failed raised."""
        result: Any = execute(
            self.schema,
            document.node,
            context_value=context,
            variable_values=dict(variables),
            operation_name=name or None,
            is_awaitable=_never,
        )
        for error in result.errors or ():
            if error.original_error is not None and not isinstance(error.original_error, GraphQLError):
                raise error.original_error
            raise Invalid(error.message, path=".".join(map(str, error.path or ())))
        return result.data


ENTITY_NAMES = ("entityName", "sourceEntityName")
"""What arguments and fields of inputs are called that name the entity that a request is for."""


def _entities(node: DocumentNode) -> Iterator[Place]:
    """Where the first fields of a document name entities. What variables are called says nothing."""
    for definition in node.definitions:
        if isinstance(definition, OperationDefinitionNode):
            defaults = {each.variable.name.value: each.default_value for each in definition.variable_definitions or ()}
            for field in definition.selection_set.selections:
                if isinstance(field, FieldNode):
                    yield from _entities_of(field, defaults)


def _entities_of(field: FieldNode, defaults: Mapping[str, ValueNode | None]) -> Iterator[Place]:
    for argument in field.arguments or ():
        value = argument.value
        if argument.name.value in ENTITY_NAMES or (field.name.value, argument.name.value) == ("entity", "name"):
            yield _place(value, defaults)
        elif isinstance(value, VariableNode):
            yield from (Place(variable=value.name.value, key=key) for key in ENTITY_NAMES)
        elif isinstance(value, ObjectValueNode):
            yield from (_place(each.value, defaults) for each in value.fields if each.name.value in ENTITY_NAMES)


def _place(value: ValueNode, defaults: Mapping[str, ValueNode | None]) -> Place:
    if isinstance(value, VariableNode):
        default = defaults.get(value.name.value)
        return Place(default.value if isinstance(default, StringValueNode) else "", value.name.value)
    return Place(value.value) if isinstance(value, StringValueNode) else Place()


def _value_at(place: Place, variables: Mapping[str, Any]) -> str:
    found = variables.get(place.variable, place.text)
    if place.key:
        found = found.get(place.key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _name_of(node: DocumentNode) -> str:
    """What a document calls its first operation."""
    operations = (each for each in node.definitions if isinstance(each, OperationDefinitionNode))
    return next((f"{each.operation.value} {each.name.value}" for each in operations if each.name), "the document")


def _answered(root: GraphQLObjectType | None, name: str) -> bool:
    """Whether a query or mutation has a field of this name, and somebody who answers it."""
    if root is None or name == "__typename":
        return root is not None
    return name in root.fields and not _is_refused(root.fields[name])


def _is_refused(field: Any) -> bool:
    return isinstance(field.resolve, partial) and field.resolve.func is _refuse


def _never(_value: Any) -> TypeGuard[Awaitable[Any]]:
    return False


def _attach(schema: GraphQLSchema, resolvers: Resolvers) -> None:
    for type_name, fields in resolvers.items():
        kind = schema.type_map[type_name]
        assert isinstance(kind, GraphQLObjectType)
        for field_name, resolver in fields.items():
            kind.fields[field_name].resolve = partial(_call, resolver)
    # A field that leads somewhere and that nobody answers must not look like one that leads nowhere.
    for type_name in ("Query", "Mutation", *resolvers):
        for name, field in schema.type_map[type_name].fields.items():  # type: ignore[attr-defined]  # object types
            leads = isinstance(get_named_type(field.type), GraphQLObjectType) or type_name in ("Query", "Mutation")
            if leads and field.resolve is None and type_name not in PLAIN:
                field.resolve = partial(_refuse, name)


PLAIN = frozenset({"File", "RunConnection", "VersionedArtifactConnection"})
"""Types whose sources are objects of JSON: what no resolver answers is in there."""


def _refuse(name: str, _source: Any, _info: Any, **_arguments: Any) -> Any:
    raise Unsupported(f"{name} is not supported by this server", operation=name)


def _call(resolver: Resolver, source: Any, info: Any, **arguments: Any) -> Any:
    return resolver(source, info.context, **arguments)


def offers(engine: Engine, operation: str, path: str) -> bool:
    """Whether the fields of a dotted ``path`` below a query or mutation are all there and answered."""
    kind: Any = engine.schema.get_root_type(OperationType(operation))
    for name in path.split("."):
        field = kind.fields.get(name)
        if field is None or _is_refused(field):
            return False
        kind = get_named_type(field.type)
    return True


# --- limits -----------------------------------------------------------------------------------------------------------


def _check_size(node: DocumentNode) -> None:
    """Bound depth and number of fields before the validator, whose cost grows with both. Invalid for fragment cycles."""
    fragments = {each.name.value: each for each in node.definitions if isinstance(each, FragmentDefinitionNode)}
    left = MAX_FIELDS

    def visit(selections: SelectionSetNode | None, depth: int, inside: frozenset[str]) -> None:
        nonlocal left
        if depth > MAX_DEPTH:
            raise TooLarge(f"the document is nested deeper than {MAX_DEPTH} levels", limit=MAX_DEPTH)
        for each in selections.selections if selections else ():
            left -= 1
            if left < 0:
                raise TooLarge(f"the document asks for more than {MAX_FIELDS} fields", limit=MAX_FIELDS)
            if isinstance(each, FragmentSpreadNode):
                name = each.name.value
                if name in inside:
                    raise Invalid(f"fragment {name[:80]} contains itself", path="query")
                if name in fragments:
                    visit(fragments[name].selection_set, depth, inside | {name})
            elif isinstance(each, InlineFragmentNode):
                visit(each.selection_set, depth, inside)
            elif isinstance(each, FieldNode):
                visit(each.selection_set, depth + 1, inside)

    for definition in node.definitions:
        if isinstance(definition, OperationDefinitionNode):
            visit(definition.selection_set, 1, frozenset())


def given(arguments: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The arguments of these names that are there and not null."""
    return {name: arguments[name] for name in names if arguments.get(name, Undefined) not in (None, Undefined)}
