"""Size as a proxy: what every other proxy has to be compared with, since it costs nothing at
all."""

from nas_face.proxies.subject import Subject


def params(subject: Subject) -> tuple[float]:
    """Trainable numbers of the network."""
    return (float(subject.spec.cost().params),)


def madds(subject: Subject) -> tuple[float]:
    """Multiply-adds for one image."""
    return (float(subject.spec.cost().madds),)
