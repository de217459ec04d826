"""Multi-view classification by a dataset's own logits plus those projected from the other datasets,
as joint training adds them (Liang et al. 2022): beside `views`, whose numbers are those of the
classifier as it is used, what training saw."""

from vjax.evals import views
from vjax.types import Evaluation

EVALUATION = Evaluation(
  views.run,
  needs='projected_logits',
  needs_labels=True,
  needs_classes=True,
  check=views.check,
  metrics=views.EVALUATION.metrics,
  multi_label_metrics=views.EVALUATION.multi_label_metrics,
)
