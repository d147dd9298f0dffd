"""The YAML of study files: what people mean, where YAML 1.1 reads something else."""

import re
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, 5e-5 is a number, and 010 and 1:30 are none."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping, and refuse a key that stands twice."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
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
