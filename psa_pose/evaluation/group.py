"""Several metrics in one evaluation, of the same predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psa_pose.errors import ResultError
from psa_pose.evaluation.metric import PoseMetric


class MetricGroup(PoseMetric):
    """What a list of evaluators in a config makes.

    The predictions are collected once; result files are the first metric's.

    Args:
        metrics: one or more, of one dataset.
        prefixes: of each one's names, which become `prefix/name`; '' leaves them.

    Raises:
        ValueError: two metrics give a number of the same name.
    """

    def __init__(self, metrics: Sequence[PoseMetric], prefixes: Sequence[str] = ()) -> None:
        self.metrics = list(metrics)
        self.prefixes = list(prefixes) or [''] * len(self.metrics)
        self._skipped = 0
        self._computed: list[list[str]] = [list(metric.names) for metric in self.metrics]
        owners: dict[str, PoseMetric] = {}
        for metric, prefix in zip(self.metrics, self.prefixes, strict=True):
            for name in metric.names:
                self._own(owners, _joined(prefix, name), metric, ValueError)
        super().__init__(self.metrics[0].dataset)
        self.names = tuple(owners)

    @property
    def skipped(self) -> int:
        """Persons whose image could not be read."""
        return self._skipped

    @skipped.setter
    def skipped(self, count: int) -> None:
        self._skipped = count
        for metric in self.metrics:
            metric.skipped = count

    @property
    def title(self) -> str:
        """All titles."""
        return '; '.join(metric.title for metric in self.metrics)

    @property
    def has_truth(self) -> bool:
        """Whether any metric has."""
        return any(metric.has_truth for metric in self.metrics)

    @property
    def warnings(self) -> list[str]:
        """Of all metrics."""
        return [warning for metric in self.metrics for warning in metric.warnings]

    def reset(self) -> None:
        """Forget all predictions."""
        super().reset()
        for metric in self.metrics:
            metric.predictions = self.predictions  # one collection, seen by all

    def compute(self) -> dict[str, Any]:
        """All numbers, prefixed where there are prefixes, and `boxes`."""
        numbers: dict[str, Any] = {}
        owners: dict[str, PoseMetric] = {}
        self._computed = []
        for metric, prefix in zip(self.metrics, self.prefixes, strict=True):
            own = {name: value for name, value in metric.compute().items() if name != 'boxes'}
            self._computed.append(list(own))
            for name, value in own.items():
                self._own(owners, _joined(prefix, name), metric, ResultError)
                numbers[_joined(prefix, name)] = value
        return {**numbers, 'boxes': self.boxes}

    def parts(self, numbers: Mapping[str, Any]) -> list[tuple[PoseMetric, Mapping[str, Any]]]:
        """Each metric with its own numbers, under their own names."""
        return [
            (metric, {name: numbers[_joined(prefix, name)] for name in names})
            for metric, prefix, names in zip(
                self.metrics, self.prefixes, self._computed, strict=True
            )
        ]

    def results(self) -> Any:
        """The first metric's."""
        return self.metrics[0].results()

    def write_results(self, path: Path) -> None:
        """As the first metric writes them."""
        self.metrics[0].write_results(path)

    @staticmethod
    def _own(
        owners: dict[str, PoseMetric], name: str, metric: PoseMetric, error: type[Exception]
    ) -> None:
        other = owners.setdefault(name, metric)
        if other is not metric:
            raise error(
                f"two metrics give the number '{name}': {type(other).__name__} ({other.title}) and "
                f"{type(metric).__name__} ({metric.title}); give one of them a prefix='...'"
            )


def _joined(prefix: str, name: str) -> str:
    return f'{prefix}/{name}' if prefix else name
