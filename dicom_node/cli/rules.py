"""``rules``: test the site's rules on files, and check them for mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.configuration import ConfigPath, read_settings
from dicom_node.cli.output import AsJson, write_json, write_table
from dicom_node.cli.paths import check_given
from dicom_node.ct.folder import Folder, scan_folder
from dicom_node.ct.headers import load
from dicom_node.ct.slices.completeness import completeness_of
from dicom_node.rules import (
    Decision,
    Explanation,
    Rule,
    Skip,
    default_order,
    explain,
    load_rules,
)
from dicom_node.work_order import AUTO

RulesPath = Annotated[
    Path | None, typer.Option("--rules", help="A rules file to try instead of the node's.")
]
OTHERWISE = "(no rule)"


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        help="Test the rules on files, or check them for mistakes.", no_args_is_help=True
    )
    group.command("test")(rules_test)
    group.command("check")(rules_check)
    app.add_typer(group, name="rules")


def rules_test(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files and folders of DICOM files.")
    ],
    source_ae: Annotated[
        str, typer.Option(help="AE title of the sender for the rules to assume.")
    ] = "",
    rules_file: RulesPath = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Show the rule that matches each series, and why earlier rules do not."""
    check_given(paths)
    settings = read_settings(config)
    rules, default = load_rules(settings, rules_file).rules, default_order(settings)
    results = []
    for name, files in _series(paths):
        headers = [load(file, pixels=False) for file in files]
        found = explain(headers, otherwise=default, rules=rules, source_ae=source_ae)
        results.append((name, len(headers), found, completeness_of(headers).missing))
    if as_json:
        write_json([_as_json(*result) for result in results])
        return
    for result in results:
        _report(*result)


def rules_check(
    rules_file: RulesPath = None, config: ConfigPath = None, as_json: AsJson = False
) -> None:
    """Check the rules file for mistakes, and list the rules in order."""
    settings = read_settings(config)
    rules, default = load_rules(settings, rules_file).rules, default_order(settings)
    lines = [(one.name, _conditions(one), _words(one.decision(default))) for one in rules]
    lines.append((OTHERWISE, "original axial CT images", _words(default)))
    if as_json:
        keys = ("rule", "when", "then")
        write_json([dict(zip(keys, line, strict=True)) for line in lines])
    else:
        write_table(("rule", "when", "then"), lines)
    for rule in rules[:-1]:
        if not rule.match and not rule.source_ae:
            typer.echo(
                f"Rule {rule.name} matches every series: no rule after it has any effect.", err=True
            )
            break


def _series(paths: list[Path]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """The series below the paths: a name and the files of each."""
    for path in paths:
        folder: Folder = scan_folder(path)
        for files in folder.series:
            below = files[0].relative_to(path.parent)
            yield (below if len(files) == 1 else below.parent).as_posix(), files
        for unread in folder.unread:
            typer.echo(unread.reason, err=True)


def _report(name: str, images: int, found: Explanation, missing: str) -> None:
    taken = found.decision.rule or OTHERWISE
    typer.echo(f"{name} ({images} images): {taken}: {_words(found.decision)}")
    for rule, objection in found.passed:
        typer.echo(f"  not {rule}: {objection}")
    if missing and not isinstance(found.decision, Skip):
        then = "skipped" if found.decision.incomplete == "skip" else "denoised as it is"
        typer.echo(f"  incomplete, so waits and is then {then}: {missing}")


def _words(decision: Decision) -> str:
    if isinstance(decision, Skip):
        return f"skip, {decision.reason}"
    gain = decision.dose_gain
    noise = "" if gain is None else f" dose gain {gain if gain == AUTO else f'{gain:g}'},"
    if decision.target_noise_hu is not None:
        noise = f" noise {decision.target_noise_hu:g} HU,"
    return (
        f"denoise by {decision.model}, strength {decision.strength:g},{noise}"
        f" to {', '.join(decision.destinations)}, {decision.priority.name.lower()}"
        f"{', even when incomplete' if decision.incomplete == 'denoise' else ''}"
    )


def _conditions(rule: Rule) -> str:
    senders = [f"sent by {' or '.join(rule.source_ae)}"] if rule.source_ae else []
    parts = [f"{keyword} {condition.words()}" for keyword, condition in rule.match.items()]
    return "\n".join([*senders, *parts]) or "any series"


def _as_json(name: str, images: int, found: Explanation, missing: str) -> dict[str, Any]:
    decision = found.decision
    outcome: dict[str, Any] = (
        {"skip": decision.reason}
        if isinstance(decision, Skip)
        else {
            "denoise": {
                "model": decision.model,
                "strength": decision.strength,
                "dose_gain": decision.dose_gain,
                "target_noise_hu": decision.target_noise_hu,
                "destinations": list(decision.destinations),
                "priority": decision.priority.name.lower(),
                "incomplete": decision.incomplete,
            }
        }
    )
    passed = [{"rule": rule, "why_not": objection} for rule, objection in found.passed]
    return {
        "series": name,
        "images": images,
        "rule": decision.rule or None,
        **outcome,
        "passed": passed,
        "missing": missing,
    }
