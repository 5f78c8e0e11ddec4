"""Tensors in, tensors out: for training loops and analyses of your own. docs/functional.md shows them at work.

```python
from crossteach.functional import positive_flips, supervised, targets
```

Importing the package loads no torch; a name does, when it is first used. `flips` itself, which compares two stored
`Predictions`, is `crossteach.flips`: here that is the name of a module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .averaging import SlowWeights as SlowWeights
    from .averaging import State as State
    from .averaging import average as average
    from .averaging import interpolate as interpolate
    from .averaging import snapshot as snapshot
    from .calibration import calibration_error as calibration_error
    from .calibration import expected_calibration_error as expected_calibration_error
    from .calibration import fit_temperature as fit_temperature
    from .contrastive import RepresentationDistillation as RepresentationDistillation
    from .contrastive import SimilarityMatching as SimilarityMatching
    from .contrastive import info_nce as info_nce
    from .contrastive import similarity_divergence as similarity_divergence
    from .ensembles import EnsembleAccuracies as EnsembleAccuracies
    from .ensembles import ensemble_accuracies as ensemble_accuracies
    from .finite import Drawn as Drawn
    from .finite import net_interval as net_interval
    from .flips import EXPERTISE_SHARES as EXPERTISE_SHARES
    from .flips import Change as Change
    from .flips import Flips as Flips
    from .flips import change as change
    from .flips import count_by_class as count_by_class
    from .flips import expertise_area as expertise_area
    from .flips import flip_entropy as flip_entropy
    from .flips import flip_matrix as flip_matrix
    from .flips import flips_by_class as flips_by_class
    from .flips import negative_flips as negative_flips
    from .flips import percent as percent
    from .flips import positive_flips as positive_flips
    from .flips import strongest as strongest
    from .flips import transfer_rate as transfer_rate
    from .flips import transfer_rate_by_area as transfer_rate_by_area
    from .judging import Judge as Judge
    from .judging import fit_judge as fit_judge
    from .label_spaces import ensemble_probs as ensemble_probs
    from .label_spaces import keep_absent as keep_absent
    from .label_spaces import keep_unknown as keep_unknown
    from .label_spaces import known_classes as known_classes
    from .label_spaces import known_together as known_together
    from .label_spaces import map_logits as map_logits
    from .label_spaces import probability_outside as probability_outside
    from .losses import cross_entropy as cross_entropy
    from .losses import kl_divergence as kl_divergence
    from .losses import mixed as mixed
    from .losses import top_kl_divergence as top_kl_divergence
    from .mixtures import flips_or_mean as flips_or_mean
    from .mixtures import learned as learned
    from .mixtures import soft as soft
    from .mixtures import uniform as uniform
    from .partition import calibrated as calibrated
    from .partition import frozen_student_only as frozen_student_only
    from .partition import off_negative_flips as off_negative_flips
    from .partition import on_positive_flips as on_positive_flips
    from .partition import shuffled as shuffled
    from .partition import supervised as supervised
    from .partition import teacher_only as teacher_only
    from .partition import unsupervised as unsupervised
    from .promise import Promise as Promise
    from .promise import best_promise as best_promise
    from .promise import fit_inputs as fit_inputs
    from .promise import promises as promises
    from .promise import rules_of as rules_of
    from .rules import Mixture as Mixture
    from .rules import Partition as Partition
    from .rules import RuleInputs as RuleInputs
    from .rules import who_knows as who_knows
    from .semantics import AreaSimilarity as AreaSimilarity
    from .semantics import Closeness as Closeness
    from .semantics import cosine_similarity as cosine_similarity
    from .statistics import Interval as Interval
    from .statistics import balanced_accuracy as balanced_accuracy
    from .statistics import balanced_weights as balanced_weights
    from .statistics import holm as holm
    from .statistics import mcnemar as mcnemar
    from .statistics import paired_delta as paired_delta
    from .statistics import sign_flip_test as sign_flip_test
    from .study import StudyInterval as StudyInterval
    from .study import StudySummary as StudySummary
    from .study import study_interval as study_interval
    from .study import summarise_study as summarise_study
    from .target_logits import label_targets as label_targets
    from .target_logits import mixed_targets as mixed_targets
    from .target_logits import targets as targets
    from .unanswered import answered as answered
    from .unanswered import fill_unanswered as fill_unanswered
    from .unlabelled import DrawnQuestions as DrawnQuestions
    from .unlabelled import GainsByLabels as GainsByLabels
    from .unlabelled import beliefs as beliefs
    from .unlabelled import draw_questions as draw_questions
    from .unlabelled import expected_gains as expected_gains
    from .unlabelled import gains_by_labels as gains_by_labels
    from .unlabelled import worth_asking as worth_asking

PUBLIC = {
    "flips": (
        # who is right where the other is wrong
        *("positive_flips", "negative_flips", "flip_matrix", "percent", "strongest", "Flips"),
        # over classes
        *("flips_by_class", "count_by_class", "flip_entropy", "expertise_area", "EXPERTISE_SHARES"),
        # what a transfer gained and lost
        *("change", "Change", "transfer_rate", "transfer_rate_by_area"),
    ),
    "rules": (
        *("Partition", "Mixture", "RuleInputs"),  # what every rule takes and returns
        "who_knows",  # the classes that each tutor knows
    ),
    "partition": (
        # rules that give each sample to one tutor
        *("supervised", "unsupervised", "calibrated", "on_positive_flips", "off_negative_flips"),
        *("shuffled", "teacher_only", "frozen_student_only"),
    ),
    "mixtures": ("soft", "uniform", "flips_or_mean", "learned"),  # rules that give each tutor a share of a sample
    "target_logits": ("targets", "mixed_targets", "label_targets"),  # from the choice to what is taught
    "label_spaces": (
        # models with other classes
        *(
            "map_logits",
            "known_classes",
            "probability_outside",
            "known_together",
            "keep_absent",
            "keep_unknown",
            "ensemble_probs",
        ),
    ),
    "unanswered": ("answered", "fill_unanswered"),  # tutors that have no answer to some samples
    "judging": ("fit_judge", "Judge"),  # who is right, told from answers alone
    "promise": ("promises", "best_promise", "rules_of", "fit_inputs", "Promise"),
    "unlabelled": (
        # what answers alone tell, and what to ask a person
        *("beliefs", "expected_gains", "worth_asking", "draw_questions", "DrawnQuestions"),
        *("gains_by_labels", "GainsByLabels"),
    ),
    "losses": ("kl_divergence", "top_kl_divergence", "cross_entropy", "mixed"),
    "contrastive": (
        # losses on features
        *("similarity_divergence", "info_nce", "SimilarityMatching", "RepresentationDistillation"),
    ),
    "averaging": ("State", "snapshot", "interpolate", "average", "SlowWeights"),
    "calibration": ("expected_calibration_error", "calibration_error", "fit_temperature"),
    "statistics": (
        *("paired_delta", "sign_flip_test", "mcnemar", "balanced_weights", "balanced_accuracy", "Interval"),
        "holm",  # for many
    ),
    "finite": ("net_interval", "Drawn"),  # of a few labels
    "study": ("study_interval", "StudyInterval", "summarise_study", "StudySummary"),
    "ensembles": ("ensemble_accuracies", "EnsembleAccuracies"),
    "semantics": ("cosine_similarity", "Closeness", "AreaSimilarity"),
}
"""The public names of each module."""

_HOME = {name: module for module, names in PUBLIC.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crossteach.functional' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
