"""What is known of a run, and what follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from psa_pose.report.events import Curve


@dataclass
class Evaluation:
    """What `write_evaluation` wrote.

    Attributes:
        folder: `evaluation` or `test` of a work dir.
        about: its `about.json`.
        metrics: its numbers by name.
        results: the predictions, in the format of the dataset's result files.
        wrong: why there are no predictions.
    """

    folder: Path
    about: dict[str, Any]
    metrics: dict[str, Any]
    results: list[dict[str, Any]] | None = None
    wrong: str = ''

    @property
    def tables(self) -> list[dict[str, Any]]:
        """Title and numbers of each, see `write_evaluation`."""
        return [t for t in self.about.get('tables', []) if isinstance(t, dict) and t.get('numbers')]

    @property
    def boxes(self) -> str:
        """Where the persons' boxes came from."""
        return str(self.about.get('boxes') or self.metrics.get('boxes') or 'unknown')


@dataclass
class Run:
    """See the fields; all of it may be empty.

    Attributes:
        folder: the work dir.
        name: told apart from those of other runs on a page.
        config_text: `config.py`.
        config: the same as a dictionary.
        environment: of the training, see `RunRecord`.
        test_environment: of the test.
        history: an entry an evaluation, steps rising.
        curves: by tag.
        evaluation: the latest of the training.
        test: of `psa-pose test`.
        missing: what a report will lack, and why.
    """

    folder: Path
    name: str
    config_text: str = ''
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    test_environment: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    test: Evaluation | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def latest(self) -> Evaluation | None:
        """The newer of evaluation and test: what pictures and diagnosis are of."""
        both = [e for e in (self.test, self.evaluation) if e]  # of two of a second the test
        return max(both, key=lambda e: str(e.about.get('time', '')), default=None)

    def metric_of(self, name: str) -> str:
        """The type of the metric that gives a number; '' where that is not known."""
        for evaluation in (self.evaluation, self.test):
            for table in evaluation.tables if evaluation else ():
                prefix = f'{table["prefix"]}/' if table.get('prefix') else ''
                if name.removeprefix(prefix) in table['numbers'] and name.startswith(prefix):
                    return str(table.get('metric'))
        evaluators = self.config.get('val_evaluator')
        evaluators = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
        types = {str(e.get('type')) for e in evaluators if isinstance(e, dict)}
        return types.pop() if len(types) == 1 else ''

    @property
    def main(self) -> str:
        """The number that the best checkpoint is chosen by."""
        hooks = self.config.get('default_hooks') or {}
        chosen = (hooks.get('checkpoint') or {}).get('save_best') or 'AP'
        known = list(self.history[-1]['metrics']) if self.history else []
        known = known or [name for e in (self.test,) if e for name in e.metrics if name != 'boxes']
        return chosen if chosen in known or not known else known[0]

    @property
    def rule(self) -> str:
        """'max' or 'min': which of `main` is the best."""
        hooks = self.config.get('default_hooks') or {}
        return str((hooks.get('checkpoint') or {}).get('rule', 'max'))

    @property
    def best(self) -> dict[str, Any] | None:
        """The entry of the history with the best `main`; of equals the first, as checkpoints."""
        known = [entry for entry in self.history if number(entry['metrics'].get(self.main))]
        choose = min if self.rule == 'min' else max
        return choose(known, key=lambda e: e['metrics'][self.main], default=None)

    @property
    def max_epochs(self) -> int | None:
        """That the config asks for."""
        value = (self.config.get('train_cfg') or {}).get('max_epochs')
        return value if isinstance(value, int) else None

    @property
    def max_steps(self) -> int | None:
        """That the config asks for, where it counts them."""
        value = (self.config.get('trainer') or {}).get('max_steps')
        return value if isinstance(value, int) and value > 0 else None

    @cached_property
    def attention(self) -> str:
        """Of the backbone, in a few words."""
        attention = ((self.config.get('model') or {}).get('backbone') or {}).get('attention')
        if not isinstance(attention, Mapping):
            return 'none'
        options = [str(v) for k, v in attention.items() if k != 'type']
        return ' '.join([str(attention.get('type')), *options])


def number(value: Any) -> bool:
    """Whether it is one, and known: -1 stands for none."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and 0 <= value < float('inf')
