"""The YAML of study files: what people mean, where YAML 1.1 reads something else."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from hsa.errors import cut, shown


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, 5e-5 is a number, and 010 and 1:30 are none.

    Whatever is wrong in it is told as a `yaml.YAMLError`.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Read a value, and say where it stands if it is none: a date of the 99th, an integer of 5000 digits."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            what = f"not a value that can be read ({type(error).__name__}: {cut(str(error))}); put text in quotes"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping, and refuse a key that stands twice."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        known: set[Any] = set()
        for key in keys:
            if isinstance(key, Hashable) and key in known:
                raise yaml.constructor.ConstructorError(None, None, f"key {shown(key)} stands twice", node.start_mark)
            known |= {key} if isinstance(key, Hashable) else set()  # of a list, YAML itself says that it is no key
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 takes 010 for 8 and 1:30 for 90.
Loader.yaml_implicit_resolvers = {
    sign: [(tag, form) for tag, form in kinds if tag != "tag:yaml.org,2002:int"]
    for sign, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
