"""Command ``man-train promote``: a candidate replaces the current model, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from man_core import ModelCard, ModelError, find_model, list_models, namesake
from man_core.quality import Window
from training.errors import TrainingError
from training.evaluate.cases import FULL_DOSE, Case, Wanted, cases
from training.evaluate.comparison import Paired, compare
from training.evaluate.methods import Method, located, model_method
from training.promotion.rule import faults, rule
from training.promotion.site import Site

SHIPPED = "man"
"""Current model of a site that has promoted none yet."""


@dataclass(frozen=True)
class PromotionRequest:
    """Request to promote a model, with the data to judge it by.

    Attributes:
        model: Registry name, path to a card, or folder of an exported model.
        to: The site's folder of models.
        data: Training set or folder of DICOM files, see ``cases``.
        full: Folder of full-dose partners; ``data`` is then real low dose.
        current: Current model; None takes the one in force in ``to``, else the shipped one.
        wanted: Split, doses and slices; full dose is always added.
        windows: Windows of the metrics.
        device: Device of both models.
    """

    model: str
    to: Path
    data: Path
    full: Path | None
    current: str | None
    wanted: Wanted
    windows: tuple[Window, ...]
    device: str = "auto"


@dataclass(frozen=True)
class Promotion:
    """Outcome of a request.

    Attributes:
        today: Model in use so far.
        candidate: Model to be promoted.
        pairs: Measurements; the model in use is the first of each pair.
        faults: Reasons for refusal; empty if promoted.
        record: Record for the history of the site.
        card: Card that is now in force; None if refused.
    """

    today: Method
    candidate: Method
    pairs: list[Paired]
    faults: list[str]
    record: dict[str, Any]
    card: Path | None


def promote(
    request: PromotionRequest, on_case: Callable[[int, int | None], None] | None = None
) -> Promotion:
    """Compare a candidate with the current model and put it in force if it is no worse.

    Raises:
        TrainingError: A model or the cases cannot be read, the candidate is the current model, or
            another model has its name.
    """
    site = Site(request.to)
    with ExitStack() as stack:
        today, candidate = (
            _card_file(stack.enter_context(located(name)), stack)
            for name in (request.current or str(site.card_file or SHIPPED), request.model)
        )
        if _same(today, candidate):
            raise TrainingError(f"{request.model} is the current model already.")
        _refuse_taken_name(ModelCard.load(candidate), ModelCard.load(today), site)
        first, second = (
            model_method(str(path), device=request.device) for path in (today, candidate)
        )
        pairs = compare(first, second, _held_out(request), request.windows, on_case)
        found = faults(pairs)
        record = _record(request, first, second, pairs, found)
        card = None if found else _in_force(site, today, candidate, record)
    return Promotion(first, second, pairs, found, record, card)


def roll_back(to: Path) -> Path:
    """Put the previous model in force again.

    Returns:
        The card in force.

    Raises:
        TrainingError: The folder has no previous model.
    """
    site = Site(to)
    version, earlier = site.version(), site.earlier()
    if earlier is None:
        raise TrainingError(f"{to} has no previous model.")
    return site.put_in_force(earlier, {"action": "back", "previous": version, "at": _now()})


def _held_out(request: PromotionRequest) -> Iterator[Case]:
    """Make the requested cases and cases of full dose; real pairs have it as their partners."""
    wanted = request.wanted
    untouched = Wanted(wanted.split, (FULL_DOSE,), wanted.slices)
    if request.full is not None:
        return chain(
            cases(request.data, request.full, wanted), cases(request.full, None, untouched)
        )
    doses = tuple(dict.fromkeys((*wanted.doses, FULL_DOSE)))
    return cases(request.data, None, Wanted(wanted.split, doses, wanted.slices))


def _card_file(name: str, stack: ExitStack) -> Path:
    """Return the file of the card of a model."""
    try:
        card, folder = find_model(name)
    except ModelError as error:
        raise TrainingError(str(error)) from error
    path = Path(name) if name.endswith(".json") else folder / f"{card.name}.json"
    if not path.is_file():
        raise TrainingError(f"{name} has no card on disk; name a model with weights.")
    return path


def _same(first: Path, second: Path) -> bool:
    return ModelCard.load(first).digest == ModelCard.load(second).digest


def _refuse_taken_name(candidate: ModelCard, today: ModelCard, site: Site) -> None:
    """Raise if a shipped model, a kept one or the current one has the name with other weights."""
    other = namesake(candidate, (*list_models(), *site.kept(), today))
    if other is not None:
        raise TrainingError(
            f"The name {candidate.name!r} belongs to a model with other weights ({other.version}),"
            " and derived series tell models apart by their names: export the candidate again"
            " with `man-train export RUN --out FOLDER --name NAME`, and promote that."
        )


def _in_force(site: Site, today: Path, candidate: Path, record: dict[str, Any]) -> Path:
    """Keep both models, so that even the first promotion can be undone."""
    previous = site.version() or site.keep(today)
    return site.put_in_force(site.keep(candidate), {**record, "previous": previous})


def _record(
    request: PromotionRequest,
    today: Method,
    candidate: Method,
    pairs: list[Paired],
    found: list[str],
) -> dict[str, Any]:
    return {
        "action": "refuse" if found else "promote",
        "at": _now(),
        "candidate": _described(candidate),
        "today": _described(today),
        "split": request.wanted.split,
        "data": request.data.resolve().name,
        "patients": len({name for pair in pairs for name in pair.patients}),
        "rule": rule(),
        "faults": found,
        "figures": [pair.to_dict() for pair in pairs],
    }


def _described(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "weights_sha256": method.weights_sha256,
        "sampler": method.sampler,
        "steps": method.steps,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
