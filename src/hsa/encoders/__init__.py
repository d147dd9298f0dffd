"""Tile encoders by name: an RGB tile in, a vector out.

A name comes in (`lite0-mid`, `uni`, `timm:resnet18`, an entry point of yours); out goes a `TileEncoder` with its
width, its fingerprint and the size of tile that it takes. Nothing is downloaded unless the study says so.
"""

__all__ = ["encoder", "hub", "lite0", "openvino", "pretrained", "registry"]
