"""Published networks as specs, with what their authors say of them."""

from nas_face.arch.zoo import (
    edgeface,
    ghostfacenet,
    iresnet,
    lightcnn,
    mixfacenet,
    mobilefacenet,
    mobilenetv2,
    pocketnet,
    seesaw,
    shufflefacenet,
    squeezefacenet,
    vargfacenet,
)
from nas_face.arch.zoo.entry import PublishedNetwork
from nas_face.errors import ArchError, near_names

NETWORKS: dict[str, PublishedNetwork] = {
    entry.name: entry
    for family in (
        mobilefacenet,
        seesaw,
        vargfacenet,
        shufflefacenet,
        mixfacenet,
        ghostfacenet,
        lightcnn,
        squeezefacenet,
        iresnet,
        pocketnet,
        edgeface,
        mobilenetv2,
    )
    for entry in family.NETWORKS
}


def network(name: str) -> PublishedNetwork:
    """The published network of that name.

    Raises:
        ArchError: there is none.
    """
    if name not in NETWORKS:
        raise ArchError(f"no network {name!r} in the zoo; {near_names(name, NETWORKS)}")
    return NETWORKS[name]


__all__ = ["NETWORKS", "PublishedNetwork", "network"]
