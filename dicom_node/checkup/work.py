"""Checks of rules, model, certificates and queue."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from dicom_node.certificates import check_certificates
from dicom_node.checkup.verdict import Checks, CheckWarning
from dicom_node.denoising.models import for_model, load_model, noise_reference
from dicom_node.errors import ModelUnavailable
from dicom_node.ledger.engine import open_ledger
from dicom_node.ledger.measures import Waiting, waiting
from dicom_node.ledger.operations import LedgerStatus, status
from dicom_node.ledger.states import JobState
from dicom_node.rules import load_rules
from dicom_node.settings import ModelSettings, Settings
from man_core import MIN_PATIENTS, ModelError, find_model, list_models, namesake

MAX_OPEN_HOURS = 24.0
"""A job that is open for longer is stuck."""


def checks(settings: Settings) -> Checks:
    """Generate the checks of rules, model, certificates and queue."""
    yield "rules", lambda: _rules(settings)
    yield "model", lambda: _model(settings)
    yield "models of rules", lambda: _rule_models(settings)
    yield "model names", lambda: _model_names(settings)
    yield "models for comparison", lambda: _comparisons(settings)
    if settings.model.noise_reference is not None:
        yield "noise reference", lambda: _noise_reference(settings.model)
    if (tls := settings.tls) is not None:
        yield "certificates", lambda: check_certificates(tls, now=time.time())
    yield "queue", lambda: _queue(settings)


def _rules(settings: Settings) -> str:
    count = len(load_rules(settings).rules)
    if count:
        return f"Rules in {settings.rules}: {count}."
    return "There are none: every original axial CT series is denoised."


def _model(settings: Settings) -> str:
    denoiser = load_model(settings.model)
    return (
        f"{denoiser.info.name} {denoiser.info.version}, {denoiser.steps} steps, weights unchanged,"
        f" on {denoiser.device}."
    )


def _rule_models(settings: Settings) -> str:
    """Load every other model that rules name, one after the other, and report all that fail."""
    others = [name for name in _named(settings) if name != settings.model.name]
    faults = []
    for name in others:
        try:
            load_model(for_model(settings.model, name))
        except ModelUnavailable as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise ModelUnavailable(" ".join(faults))
    if not others:
        return "Rules name no other model."
    return f"{', '.join(others)}: weights unchanged."


def _named(settings: Settings) -> list[str]:
    """Return the names of the models in node.yaml and the rules, each once."""
    work = (rule.denoise for rule in load_rules(settings).rules)
    named = (settings.model.name, *(each.model for each in work if each and each.model))
    return list(dict.fromkeys(named))


def _model_names(settings: Settings) -> str:
    """Report models of the configuration that share a name with another model."""
    try:
        cards = [find_model(name)[0] for name in _named(settings)]
        known = (*cards, *list_models())
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    doubles = {card.name: other for card in cards if (other := namesake(card, known))}
    if doubles:
        names = ", ".join(f"{name!r}" for name in doubles)
        raise CheckWarning(
            f"Several models with different weights are named {names}, and derived series tell them"
            " apart by their version only: export yours again under another name (`man-train"
            " export RUN --out FOLDER --name NAME`), promote it, and name that in node.yaml or the"
            " rules."
        )
    return "Every model has a name of its own."


def _comparisons(settings: Settings) -> str:
    """Report models of the configuration that are for comparison; unknown ones have been named."""
    used = []
    for name in _named(settings):
        with suppress(ModelError):
            card, _ = find_model(name)
            used += [card.name] if card.for_comparison else []
    if used:
        raise CheckWarning(
            f"{', '.join(used)}: for comparison with other models, not for reading, and every"
            " derived image says so. Name another model in node.yaml and the rules, unless this"
            " node serves a study."
        )
    return "None is used."


def _noise_reference(model: ModelSettings) -> str:
    cells = noise_reference(model).cells
    used = sum(cell.usable for cell in cells)
    found = f"{used} of {len(cells)} kinds of series have the {MIN_PATIENTS} patients to be used"
    if not used:
        raise CheckWarning(
            f"{found}, so that `dose_gain: auto` is always the default of the model's card: give"
            " `dicom-node noise-reference` more full-dose series."
        )
    return f"{found}."


def _queue(settings: Settings) -> str:
    ledger = open_ledger(settings.database)
    try:
        troubles = [*_troubles(status(ledger)), *_refused(waiting(ledger))]
    finally:
        ledger.close()
    if troubles:
        text = "; ".join(troubles)
        raise CheckWarning(f"{text[:1].upper()}{text[1:]}.")
    return "Nothing is paused, failed or stuck."


def _troubles(now: LedgerStatus) -> list[str]:
    found = [
        f"stage {pause.stage} is paused ({pause.reason or 'no reason given'}): `dicom-node jobs"
        f" resume {pause.stage}` resumes it"
        for pause in now.pauses
    ]
    if failed := now.jobs.get(JobState.FAILED, 0):
        what = "1 job has" if failed == 1 else f"{failed} jobs have"
        found.append(
            f"{what} failed: `dicom-node jobs show ID` gives the reason, `jobs retry ID` retries"
        )
    if now.oldest_open_at is not None:
        hours = (time.time() - now.oldest_open_at) / 3600
        if hours > MAX_OPEN_HOURS:
            found.append(
                f"the oldest open job is {hours:.0f} hours old: see `dicom-node jobs list`"
            )
    return found


def _refused(now: Waiting) -> Iterator[str]:
    for name, refused in now.refused.items():
        yield (
            f"destination {name} has refused results (open jobs: {refused.jobs}): `dicom-node jobs"
            f" show {refused.first}` gives the reason, `jobs retry ID` retries"
        )
